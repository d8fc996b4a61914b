//! What stands in texts until the host's answer is known.

use rick::bundle::token::{Piece, pieces, realise};

/// A text is the sum of its pieces, and a token is replaced by what stands for it.
pub(super) fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(all) = pieces(text) else {
        assert!(realise(text, |_| Ok(String::new())).is_err());
        return false;
    };
    let shown = |piece: &Piece<'_>| match piece {
        Piece::Text(text) => (*text).to_owned(),
        Piece::Token(token) => token.to_string(),
    };
    let again: String = all.iter().map(shown).collect();
    assert_eq!(pieces(&again).as_ref(), Ok(&all));
    assert_eq!(realise(text, |token| Ok(token.to_string())).as_ref(), Ok(&again));
    let without = realise(text, |_| Ok(String::new())).expect("its tokens are well-formed");
    assert!(without.len() <= text.len());
    true
}
