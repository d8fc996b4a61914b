//! `rickbuild`: from a source tree to a bundle.
//!
//! 1. `evaluate`: loads the environment and its modules, runs them, wires facts to consumers → an [`item::Evaluation`].
//! 2. `check`: items → findings, all of them.
//! 3. `lower`: items → units, Quadlets, accounts and files of one host; every choice ends here.
//! 4. `render`: typed → bytes; the only place that quotes and escapes.
//! 5. `image`: image definitions → OCI layers, configs and manifests.
//! 6. `emit`: everything → an OCI image layout, as a tar stream.

pub mod archive;
pub mod blob;
pub mod emit;
pub mod finding;
pub mod host;
pub mod image;
pub mod item;
pub mod lower;
pub mod payload;
pub mod render;
pub mod show;
pub mod source;
