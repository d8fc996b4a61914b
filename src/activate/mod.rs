//! `rick-activate`: from a bundle to a running host.
