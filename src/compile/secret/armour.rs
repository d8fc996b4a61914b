//! age's armour: its bytes as text between two lines, so that they are seen to be whole and survive a paste.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----\n";
const END: &str = "-----END AGE ENCRYPTED FILE-----\n";
const COLUMNS: usize = 64;

/// It begins like armour.
pub(super) fn is_armour(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN.trim_end().as_bytes())
}

/// The bytes inside; nothing if this is not exactly what age and rage write.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_prefix(BEGIN)?;
    // The last line break is often lost.
    let text = text.strip_suffix(END).or_else(|| text.strip_suffix(END.trim_end()))?.strip_suffix('\n')?;
    let mut lines = text.split('\n').peekable();
    let mut decoded = Vec::new();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        if line.is_empty() || line.len() > COLUMNS || (line.len() < COLUMNS && !is_last) {
            return None;
        }
        // Padding can only be at the end: 64 columns are whole groups.
        let engine = if is_last { STANDARD } else { STANDARD_NO_PAD };
        decoded.extend(engine.decode(line).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armour(lines: &str) -> String {
        format!("{BEGIN}{lines}{END}")
    }

    #[test]
    fn armour_is_lines_of_one_length_between_two_others() {
        let full = "A".repeat(64);
        assert_eq!(decode(armour("Zm9vYg==\n").as_bytes()).unwrap(), b"foob");
        assert_eq!(decode(armour(&format!("{full}\nZm9v\n")).as_bytes()).unwrap().len(), 51);
        assert_eq!(decode(armour(&format!("{full}\n")).as_bytes()).unwrap().len(), 48);
        assert_eq!(decode(armour("Zm9v\n").trim_end().as_bytes()).unwrap(), b"foo");
        let long = "A".repeat(68);
        for wrong in [
            "",
            "\n",
            "Zm9v",
            "Zm9v\nZm9v\n",
            "Zm9v\r\n",
            "Zm9v\n\n",
            &format!("{long}\n"),
            " Zm9v\n",
            "Zm9vYg\n",
        ] {
            assert_eq!(decode(armour(wrong).as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(decode(format!(" {}", armour("Zm9v\n")).as_bytes()), None);
        assert_eq!(decode(format!("{}x", armour("Zm9v\n")).as_bytes()), None);
    }
}
