//! Every integration test, in one crate: a file for each promise, and what they stand on in `support`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apps;
mod bench;
mod blueprints;
mod bundle;
mod crash;
mod docs;
mod errors;
mod forward_auth;
mod homelab;
mod hosts;
mod language;
mod policy;
mod refusals;
mod support;
mod switch;
mod third_party;
mod tools;
mod try_out;
