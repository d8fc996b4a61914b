//! stub
/// stub
pub fn command(a: &[String]) -> String { a.join(" ") }
/// stub
pub fn environment(a: &str, b: &str) -> String { format!("{a}={b}") }
