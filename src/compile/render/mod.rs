//! stub
pub mod caddyfile;
pub mod ini;
