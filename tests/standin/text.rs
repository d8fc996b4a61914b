//! Small notations: JSON, addresses, tables.

use std::fmt::Write as _;

/// A JSON string, with its quotes.
pub(crate) fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// A JSON array of strings.
pub(crate) fn json_strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(json_string).collect();
    format!("[{}]", texts.join(","))
}

/// A JSON object of strings.
pub(crate) fn json_map<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(name, value)| format!("{}:{}", json_string(name), json_string(value)))
        .collect();
    format!("{{{}}}", entries.join(","))
}

/// RFC 3986, 2.3: everything but what is never special.
pub(crate) fn percent_encode(text: &str) -> String {
    escape(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// What may stand in a header: no line ends there, whoever wrote the text.
pub(crate) fn header_value(text: &str) -> String {
    escape(text, |byte| (b' '..=b'~').contains(&byte))
}

fn escape(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if keep(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Nothing if it is not percent-encoded UTF-8. A plus is a space, as in a form.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// How Go's `text/tabwriter` lines up columns, with Gitea's flags.
pub(crate) struct Table {
    pub(crate) min_width: usize,
    pub(crate) tab_width: usize,
    pub(crate) padding: usize,
    pub(crate) pad: char,
    pub(crate) bars: bool,
}

impl Table {
    /// Every row has as many cells as the first. The last cell of a row is in no column.
    pub(crate) fn draw<const N: usize>(&self, rows: &[[String; N]]) -> String {
        let columns = N.saturating_sub(1);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().map_or(0, |cell| (cell + self.padding).max(self.min_width))
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                if column > 0 && self.bars {
                    text.push('|');
                }
                let padding = widths.get(column).map_or_else(String::new, |width| self.fill(*width, cell));
                // To the right, but for tabs: those always follow their cell.
                let halves = if self.pad == '\t' { [cell, &padding] } else { [&padding, cell] };
                text.extend(halves.map(String::as_str));
            }
            text.push('\n');
        }
        text
    }

    fn fill(&self, width: usize, cell: &str) -> String {
        let used = cell.chars().count();
        let count = match (self.pad, self.tab_width) {
            ('\t', 0) => 0,
            ('\t', tab) => (width.next_multiple_of(tab) - used).div_ceil(tab),
            _ => width - used,
        };
        String::from(self.pad).repeat(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped() {
        assert_eq!(json_string("a\"\\\n\u{1}ü"), r#""a\"\\\u000a\u0001ü""#);
        assert_eq!(json_map([("a", "b"), ("c", "\t")]), r#"{"a":"b","c":"\u0009"}"#);
        assert_eq!(json_strings(["a", "b"]), r#"["a","b"]"#);
    }

    #[test]
    fn addresses_go_there_and_back() {
        let address = "https://h/ä?a=b&c=d+e%20#~";
        let encoded = percent_encode(address);
        assert_eq!(encoded, "https%3A%2F%2Fh%2F%C3%A4%3Fa%3Db%26c%3Dd%2Be%2520%23~");
        assert_eq!(percent_decode(&encoded).as_deref(), Some(address));
        assert_eq!(percent_decode("a+b%2b").as_deref(), Some("a b+"));
        for wrong in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(wrong), None, "{wrong}");
        }
        assert_eq!(header_value("a b\r\nX: ü"), "a b%0D%0AX: %C3%BC");
    }

    #[test]
    fn a_table_is_lined_up_as_go_does_it() {
        let row = |cells: [&str; 4]| cells.map(String::from);
        let rows = [row(["ID", "Name", "Type", "Enabled"]), row(["1", "authentik", "OAuth2", "true"])];
        let tabs = Table { min_width: 0, tab_width: 8, padding: 1, pad: '\t', bars: false };
        assert_eq!(tabs.draw(&rows), "ID\tName\t\tType\tEnabled\n1\tauthentik\tOAuth2\ttrue\n");
        let bars = Table { pad: ' ', bars: true, ..tabs };
        assert_eq!(bars.draw(&rows), " ID|      Name|   Type|Enabled\n  1| authentik| OAuth2|true\n");
        let none = Table { pad: '\t', tab_width: 0, bars: false, ..bars };
        assert_eq!(none.draw(&rows[..1]), "IDNameTypeEnabled\n");
    }
}
