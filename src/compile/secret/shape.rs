//! Values that no person thinks up.

use std::io;

use clap::ValueEnum;

/// What a random value is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Letters, digits, `-` and `_`
    Base64url,
    /// 0-9 and a-f
    Hex,
    /// Letters and digits
    Alphanumeric,
    /// Digits
    Digits,
}

impl Shape {
    /// The length at which nobody guesses one: 256 bits.
    pub fn usual_length(self) -> usize {
        match self {
            Self::Base64url => 43,
            Self::Hex => 64,
            Self::Alphanumeric => 44,
            Self::Digits => 78,
        }
    }

    fn alphabet(self) -> &'static [u8] {
        const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
        match self {
            Self::Base64url => LETTERS,
            Self::Hex => &LETTERS[..16],
            Self::Alphanumeric => &LETTERS[..62],
            Self::Digits => &LETTERS[..10],
        }
    }

    /// A random value: each character is any of the alphabet, with the same chance.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn random(self, length: usize) -> io::Result<Vec<u8>> {
        let alphabet = self.alphabet();
        let fair = 256 - 256 % alphabet.len();
        let mut value = Vec::with_capacity(length);
        while value.len() < length {
            let bytes = random::<64>()?;
            // Those at the end would favour the first characters.
            let places = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
            value.extend(places.map(|byte| alphabet[byte % alphabet.len()]).take(length - value.len()));
        }
        Ok(value)
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_character_of_an_alphabet_comes_and_no_other() {
        for shape in Shape::value_variants() {
            assert_eq!(shape.random(7).unwrap().len(), 7);
            let value = shape.random(20_000).unwrap();
            assert_eq!(value.len(), 20_000);
            assert_ne!(value, shape.random(20_000).unwrap());
            let seen: BTreeSet<u8> = value.iter().copied().collect();
            assert_eq!(seen, shape.alphabet().iter().copied().collect());
            let mean = value.len() / shape.alphabet().len();
            for character in seen {
                let count = value.split(|other| *other == character).count();
                assert!((mean / 2..mean * 2).contains(&count), "{shape:?}: {count} of {mean}");
            }
        }
    }

    #[test]
    fn the_usual_length_holds_256_bits() {
        for shape in Shape::value_variants() {
            #[allow(clippy::cast_precision_loss)]
            let bits = (shape.alphabet().len() as f64).log2() * shape.usual_length() as f64;
            assert!((256.0..264.0).contains(&bits), "{shape:?}: {bits}");
        }
    }
}
