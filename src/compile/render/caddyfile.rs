//! stub
/// stub
pub struct CaddyConfig { pub email: Option<String>, pub tls_internal: bool, pub admin_socket: String, pub forward_auth: Option<String>, pub sites: Vec<crate::compile::item::Site> }
/// stub
pub fn render(c: &CaddyConfig) -> Result<String, String> { Ok(format!("{}", c.sites.len())) }
