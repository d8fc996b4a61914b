//! From typed values to text. Pure, and the only place that quotes and escapes.

pub mod accounts;
pub mod caddyfile;
pub mod ini;
