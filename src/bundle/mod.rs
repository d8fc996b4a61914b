//! The contract between the two programs: what a bundle is, byte by byte.
//!
//! # The bundle
//!
//! `bundle.tar` is an OCI image layout in a plain USTAR archive: regular files only, no `./`, owner and time 0, mode 0644,
//! each blob once, in the order in which one pass can verify it:
//!
//! ```text
//! oci-layout                 {"imageLayoutVersion":"1.0.0"}
//! index.json                 the descriptors of every host manifest, the bundle index and every image manifest
//! manifest.json              only if there are images: what `podman load` reads; nothing of ours does
//! blobs/sha256/…             host manifests and their configs, the bundle index, image manifests and configs,
//!                            host layers, image layers
//! ```
//!
//! A **host manifest** is an OCI manifest of artifact type [`oci::HOST_ARTIFACT`]. Its config is a [`manifest::HostManifest`], its one
//! layer the host's files: again plain USTAR with regular files only, gzipped. Links are no tar entries: they are data
//! in the manifest, so that nothing in an archive can lead anywhere. The host manifest's digest is *the* digest of a
//! build for that host; the config lists the digests of the images, so the one digest covers everything. What signs a build
//! signs those bytes ([`signature`]), and stands beside the digest in both indexes.
//!
//! # The files of a host
//!
//! ```text
//! units/NAME                 unit files, units/NAME.d/*.conf drop-ins; NAME.wants/ links are in the manifest
//! quadlets/NAME              Quadlet files
//! etc/INSTANCE/…             files that keep a stable path through `current` (a reload reads them again)
//! objects/NAME/…             one configuration directory each, stored on the host under its content's digest
//! secrets/NAME.age           secrets, encrypted for the host
//! sysusers.conf, tmpfiles.conf
//! ```
//!
//! # Invariants
//!
//! - Bytes that are not listed with a digest are not read; what a digest names is verified before it is used.
//! - Canonical JSON: keys sorted, no floats, no white space. No time, tool version or host fact of the build.
//! - An unknown [`manifest::FORMAT`] is refused before anything else of a manifest is believed.

pub mod digest;
pub mod manifest;
pub mod names;
pub mod oci;
pub mod secret;
pub mod signature;
pub mod token;
pub mod ustar;
