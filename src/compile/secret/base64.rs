//! Base64 as SSH and age write it: one text for the same bytes, anything else is refused.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of these bytes, without padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

/// The bytes of a text that is padded.
pub(super) fn decode_padded(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let padding = (4 - bare.len() % 4) % 4;
    (text.len() - bare.len() == padding).then(|| decode(bare)).flatten()
}

/// The bytes of a text that is not padded.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for byte in chunk {
            let value = ALPHABET.iter().position(|known| known == byte)?;
            group = group << 6 | u32::try_from(value).ok()?;
        }
        let whole = chunk.len() * 6 / 8;
        group <<= 6 * (4 - chunk.len());
        let [_, all @ ..] = group.to_be_bytes();
        // Neither half a byte, nor bits that no byte takes.
        if whole == 0 || all[whole..].iter().any(|rest| *rest != 0) {
            return None;
        }
        bytes.extend(&all[..whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text_are_each_others() {
        // RFC 4648, section 10.
        let known =
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")];
        for (bytes, text) in known {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xbf]), "+/+/");
        assert_eq!(decode_padded("Zm9vYg==").unwrap(), b"foob");
        assert_eq!(decode_padded("Zm9v").unwrap(), b"foo");
    }

    #[test]
    fn there_is_one_text_for_the_same_bytes() {
        for wrong in ["Z", "Zh", "Zm9", "Zg==", "Zm 9", "Zm9v\n", "_w", "Zm9vZ", "ä"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        for wrong in ["Zg", "Zg=", "Zg===", "Zm9v=", "Zm9v====", "="] {
            assert_eq!(decode_padded(wrong), None, "{wrong}");
        }
    }
}
