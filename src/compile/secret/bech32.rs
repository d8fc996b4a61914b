//! Bech32, which age's keys are written in: a checksum tells a mistyped one.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
const CHECKSUM: usize = 6;

/// What stands before the last `1` of a text in lower case whose checksum is right, and the bytes that follow.
pub(super) fn decode(text: &str) -> Option<(&str, Vec<u8>)> {
    let (prefix, rest) = text.rsplit_once('1')?;
    if prefix.is_empty()
        || !prefix
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_+.".contains(&byte))
    {
        return None;
    }
    let value = |letter| u8::try_from(ALPHABET.find(letter)?).ok();
    let values = rest.chars().map(value).collect::<Option<Vec<u8>>>()?;
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(values.iter().copied());
    if checksum(all) != 1 {
        return None;
    }
    let data = &values[..values.len().checked_sub(CHECKSUM)?];
    Some((prefix, bytes(data)?))
}

fn checksum(values: impl Iterator<Item = u8>) -> u32 {
    values.fold(1, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        GENERATOR
            .iter()
            .enumerate()
            .fold(next, |next, (bit, term)| if top >> bit & 1 == 1 { next ^ term } else { next })
    })
}

/// Groups of five bits as bytes; what is left over is less than a group, and nothing.
fn bytes(groups: &[u8]) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for group in groups {
        bits = (bits << 5 | u32::from(*group)) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.extend(u8::try_from(bits >> count & 0xff));
        }
    }
    (count < 5 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_age_is_its_bytes_and_a_mistyped_one_nothing() {
        // BIP 173 and age's own README.
        let (prefix, bytes) =
            decode("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p").unwrap();
        assert_eq!((prefix, bytes.len()), ("age", 32));
        assert_eq!(decode("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw").unwrap().0, "abcdef");
        for wrong in [
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q",
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8",
            "age1QL3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
            "age1",
            "1",
            "age",
            "",
        ] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
