//! rick compiles a described environment into one content-addressed bundle, and switches hosts to it.
//!
//! The stages, in order:
//!
//! 1. [`compile`] (the program `rickbuild`): source tree → bundle. Its own stages are listed there.
//! 2. [`bundle`]: the contract. With [`registry`], one way that it goes, all that the two programs share, but for how they write and refuse.
//! 3. [`activate`] (the program `rick-activate`): bundle → running host. Its own stages are listed there.
//!
//! This file is the only place that asks for a feature: without `compile` the crate is the activator alone.

pub mod activate;
pub mod bundle;
#[cfg(feature = "compile")]
pub mod compile;
pub mod durable;
pub mod refusal;
pub mod registry;
