//! `rickbuild`: from a source tree to a bundle.
//!
//! 1. `evaluate`: loads the environment and its modules, runs them, wires facts to consumers → an [`item::Evaluation`].
//! 2. `check`: items → findings, all of them.
//! 3. `payload`: finds and hashes the files of the source tree that the items ship.
//! 4. `image`: image definitions → OCI layers, configs and manifests.
//! 5. `lower`: a checked host → the files and the manifest of its bundle; every choice ends here.
//! 6. `render`: typed → bytes; the only place that quotes and escapes. Called by `lower` and by the language's built-ins.
//! 7. `emit`: everything → an OCI image layout, as a tar stream. `show` prints the same for people.
//!
//! `archive` and `blob` are what `image` and `emit` share: repeatable tar archives, and bytes with a digest.

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
