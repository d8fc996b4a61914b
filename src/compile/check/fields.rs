//! Values with colons: the colon inside a token separates nothing.

/// The fields of `a:b:c`.
pub(super) fn fields(value: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, character) in value.char_indices() {
        match character {
            '(' if value[..at].ends_with("@rick") => inside = true,
            ')' => inside = false,
            ':' if !inside => {
                fields.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&value[start..]);
    fields
}

/// The field of that number; empty if there is none.
pub(super) fn field(value: &str, number: usize) -> &str {
    fields(value).get(number).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_whole() {
        assert_eq!(fields("@rick(object:a)/x:/y:ro"), ["@rick(object:a)/x", "/y", "ro"]);
        assert_eq!(fields("(a:b)"), ["(a", "b)"]);
        assert_eq!(field("a", 1), "");
    }
}
