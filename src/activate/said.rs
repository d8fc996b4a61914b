//! What the journal has of one run of a unit.

use serde::Deserialize;

/// The fields of an entry that are read, as `--output-fields` takes them.
pub(super) const FIELDS: &str = "MESSAGE,_SYSTEMD_INVOCATION_ID,INVOCATION_ID";

/// An entry, as `--output=json` gives it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(rename = "MESSAGE")]
    message: Option<Text>,
    /// The run that said it.
    #[serde(rename = "_SYSTEMD_INVOCATION_ID")]
    of: Option<String>,
    /// The run that systemd says it about.
    #[serde(rename = "INVOCATION_ID")]
    about: Option<String>,
}

/// What is no text stands there as its bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes(Vec<u8>),
}

/// The lines of one run, from entries of its unit that are in order of time.
///
/// What a process says just before it ends, journald may read after it: then it knows the unit, and no longer the run. Such an entry
/// is of the run that began last.
pub(super) fn lines(run: &str, entries: &str) -> Vec<String> {
    let entries = entries.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let mut current = false;
    let of_run = entries.filter(|entry| {
        if let Some(of) = entry.about.as_ref().or(entry.of.as_ref()) {
            current = of == run;
        }
        current
    });
    let texts = of_run.filter_map(|entry| entry.message).map(|text| match text {
        Text::Plain(text) => text,
        Text::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    });
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_of_the_run_that_began_last() {
        let entries = r#"{"MESSAGE":"of which run?"}
{"MESSAGE":"Starting…","INVOCATION_ID":"one"}
{"MESSAGE":"first","_SYSTEMD_INVOCATION_ID":"one"}
{"MESSAGE":"Starting…","INVOCATION_ID":"two"}
{"MESSAGE":[101,255,10,110,101,120,116],"_SYSTEMD_INVOCATION_ID":"two"}
{"MESSAGE":"last words"}
{"MESSAGE":null,"INVOCATION_ID":"two"}
no entry
{"MESSAGE":"Failed.","INVOCATION_ID":"two"}
{"MESSAGE":"Starting…","INVOCATION_ID":"three"}
{"MESSAGE":"other last words"}"#;
        assert_eq!(lines("two", entries), ["Starting…", "e\u{fffd}", "next", "last words", "Failed."]);
        assert_eq!(lines("one", entries), ["Starting…", "first"]);
        assert!(lines("four", entries).is_empty());
    }
}
