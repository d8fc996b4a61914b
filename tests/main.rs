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
mod hand_made;
mod homelab;
mod hosts;
mod images;
mod invariants;
mod language;
mod looking;
mod model;
mod policy;
mod refusals;
mod registry;
mod support;
mod switch;
mod third_party;
mod tools;
mod transaction;
mod try_out;
