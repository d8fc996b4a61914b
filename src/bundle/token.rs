//! Tokens: what only the host knows, standing in text until the activator replaces it.
//!
//! `@rick(uid:NAME)` and `@rick(gid:NAME)` become numbers, `@rick(object:NAME)` the absolute store path of a configuration
//! directory, `@rick(secret:NAME:USER:GROUP:MODE)` that of a file in memory. Only files that the compiler generated are searched; payload files are never touched.

use std::fmt;

use super::names::{AccountName, Label};
use super::secret::SecretFile;

const OPEN: &str = "@rick(";

/// One thing that only the host knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Token {
    /// The number of a user.
    Uid(AccountName),
    /// The number of a group.
    Gid(AccountName),
    /// The store path of a configuration directory.
    Object(Label),
    /// The path of a file with the value of a secret.
    Secret(SecretFile),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(name) => write!(f, "{OPEN}uid:{name})"),
            Self::Gid(name) => write!(f, "{OPEN}gid:{name})"),
            Self::Object(name) => write!(f, "{OPEN}object:{name})"),
            Self::Secret(file) => write!(f, "{OPEN}secret:{file})"),
        }
    }
}

/// A text cut at its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text that stays.
    Text(&'a str),
    /// A token to replace.
    Token(Token),
}

/// Cuts `text` at its tokens.
///
/// # Errors
/// What is wrong with the first malformed token.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        let (before, token) = rest.split_at(start);
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let body = &token[OPEN.len()..];
        let (body, after) = body.split_once(')').ok_or_else(|| format!("`{OPEN}` is never closed"))?;
        pieces.push(Piece::Token(parse(body)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Replaces every token of `text` by what `value` gives for it.
///
/// # Errors
/// A malformed token, or one that `value` cannot resolve.
pub fn realise(
    text: &str,
    mut value: impl FnMut(&Token) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Token(token) => out.push_str(&value(&token)?),
        }
    }
    Ok(out)
}

fn parse(body: &str) -> Result<Token, String> {
    match body.split_once(':') {
        Some(("uid", name)) => Ok(Token::Uid(name.parse()?)),
        Some(("gid", name)) => Ok(Token::Gid(name.parse()?)),
        Some(("object", name)) => Ok(Token::Object(name.parse()?)),
        Some(("secret", file)) => Ok(Token::Secret(file.parse()?)),
        _ => Err(format!(
            "`{OPEN}{})` is no token: uid, gid, object and secret are known",
            body.escape_debug()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_and_text_is_kept() {
        let text = "User=@rick(uid:app)\nGroupAdd=@rick(gid:db-clients)@rick(gid:app)\nmail=a@rick.example";
        let seen =
            realise(text, |token| Ok(if matches!(token, Token::Uid(_)) { "7" } else { "9" }.to_owned()));
        assert_eq!(seen.unwrap(), "User=7\nGroupAdd=99\nmail=a@rick.example");
    }

    #[test]
    fn malformed_tokens_are_errors() {
        for wrong in ["@rick(", "@rick(uid:app", "@rick(gid:A B)", "@rick(pid:1)", "@rick()"] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
        let secret = "@rick(secret:db-key:app:root:400)";
        let Piece::Token(token) = &pieces(secret).unwrap()[0] else { panic!("it is one") };
        assert_eq!(token.to_string(), secret);
        for wrong in
            ["db-key", "db-key:app:root:644", "db-key:app:root:0o400", "../x:app:root:400", "x:a:b:400:1"]
        {
            assert!(pieces(&format!("@rick(secret:{wrong})")).is_err(), "{wrong}");
        }
    }
}
