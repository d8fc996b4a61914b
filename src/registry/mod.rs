//! Registries: where bundles are published, and where hosts fetch them.
//!
//! Both programs leave the talking to `skopeo`, which hosts need anyway to load images: it knows the protocols, the certificates and the
//! places of passwords, and neither program carries a TLS library. What it brings is believed by nobody before its digest holds.
//!
//! [`reference`](mod@reference) is what is named, [`skopeo`](mod@skopeo) the program that is asked.

pub mod reference;
pub mod skopeo;

use self::reference::Reference;
use self::skopeo::Skopeo;

/// Where a bundle comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What is to be had there.
    pub reference: Reference,
    /// The way in.
    pub skopeo: Skopeo,
}
