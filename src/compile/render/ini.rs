//! Unit files and Quadlet files: sections to text, and the quoting of command lines inside them. `compile::ini` reads them.
//!
//! A value in [`Sections`] is raw: what stands after the `=` in the file, on one line. [`command`], [`environment`] and
//! [`container_environment`] make raw values out of plain text; nothing else does.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write as _;

use crate::compile::ini::continues;
use crate::compile::item::Sections;

/// The text of a unit or Quadlet file; `header` becomes a comment in its first line.
///
/// Total on purpose: what `check` complains about is written as near as the syntax can hold it, and can never become another line,
/// key or section.
pub fn render(header: &str, sections: &Sections) -> String {
    let mut text = format!("# {}\n", one_line(header));
    for (name, entries) in sections {
        let _ = write!(text, "\n[{}]\n", one_line(name));
        for (key, value) in entries {
            let _ = writeln!(text, "{}={}", one_line(key), one_line(value));
        }
    }
    text
}

/// `text` without what would end the line or join the next one to it.
fn one_line(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = line.trim().to_owned();
    if continues(&line) {
        line.pop();
    }
    line
}

/// One command line out of plain arguments: for `ExecStart=` and its like.
///
/// Every argument arrives as it is given: nothing in it is a specifier, a variable or an escape. Two things cannot be had:
/// a NUL byte (systemd refuses the line), and a first argument that begins with one of systemd's prefixes (`-@:+!|`), which
/// keeps its meaning.
pub fn command<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> String {
    let words: Vec<String> =
        arguments.into_iter().map(|word| quote(&escape_variables(word.as_ref()))).collect();
    words.join(" ")
}

/// The same for Quadlet's `Exec=` and `PodmanArgs=`, which Quadlet takes apart and quotes again on the way to `ExecStart=`.
///
/// # Errors
/// Arguments that Quadlet (seen in 5.4.2 and 5.8.6) loses silently: an empty one ends the command, and `;` begins another.
pub fn container_command<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Result<String, String> {
    let arguments: Vec<S> = arguments.into_iter().collect();
    for argument in &arguments {
        match argument.as_ref() {
            "" => {
                return Err(
                    "an empty argument ends a command: Quadlet drops it and all that follow".to_owned()
                );
            }
            ";" => {
                return Err(
                    "the argument `;` ends a command: Quadlet unquotes it, and systemd begins another"
                        .to_owned(),
                );
            }
            _ => {}
        }
    }
    Ok(command(arguments))
}

/// One assignment for `Environment=` of a native unit, where `$` means nothing.
pub fn environment(name: &str, value: &str) -> String {
    quote(&format!("{name}={value}"))
}

/// One assignment for `Environment=` of a Quadlet, which ends up in a command line, where `$` means a variable.
pub fn container_environment(name: &str, value: &str) -> String {
    quote(&escape_variables(&format!("{name}={value}")))
}

fn escape_variables(word: &str) -> String {
    word.replace('$', "$$")
}

/// One word: percent signs doubled, and in double quotes with C escapes if anything in it means something to systemd.
fn quote(word: &str) -> String {
    let word = word.replace('%', "%%");
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\' | ';' | '#');
    if !word.is_empty() && !word.contains(special) {
        return word;
    }
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_ascii_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sections(all: &[(&str, &[(&str, &str)])]) -> Sections {
        let entry = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        all.iter().map(|(name, entries)| ((*name).to_owned(), entries.iter().map(entry).collect())).collect()
    }

    #[test]
    fn sections_are_written_in_order_below_one_comment() {
        let unit = sections(&[
            ("Unit", &[("Description", "A unit"), ("After", "b.service"), ("After", "a.service")]),
            ("Service", &[("ExecStart", "/bin/true")]),
        ]);
        assert_eq!(
            render("whoami of homelab", &unit),
            "# whoami of homelab\n\n[Unit]\nDescription=A unit\nAfter=b.service\nAfter=a.service\n\n\
             [Service]\nExecStart=/bin/true\n"
        );
    }

    #[test]
    fn a_value_never_becomes_another_line() {
        let unit =
            sections(&[("Service\n[X]", &[("User", "app\nUser=root"), ("A\nB", "x\\"), ("C", "y\\\\")])]);
        assert_eq!(
            render("two\nlines", &unit),
            "# two lines\n\n[Service [X]]\nUser=app User=root\nA B=x\nC=y\\\\\n"
        );
    }

    #[test]
    fn arguments_are_quoted_only_where_they_must() {
        for (argument, expected) in [
            ("/usr/bin/app", "/usr/bin/app"),
            ("--user=@rick(uid:app)", "--user=@rick(uid:app)"),
            ("100%", "100%%"),
            ("$HOME", "$$HOME"),
            ("${HOME}", "$${HOME}"),
            ("", r#""""#),
            ("x y", r#""x y""#),
            ("quote'd", r#""quote'd""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            (r"back\slash", r#""back\\slash""#),
            ("a\nb\tc", r#""a\nb\tc""#),
            ("\u{1b}", r#""\x1b""#),
            (";", r#"";""#),
            ("größe", "größe"),
        ] {
            assert_eq!(command([argument]), expected, "{argument:?}");
        }
        assert_eq!(command(["/bin/sh", "-c", "echo $1; exit"]), r#"/bin/sh -c "echo $$1; exit""#);
    }

    #[test]
    fn arguments_that_quadlet_loses_are_refused() {
        assert_eq!(container_command(["a b", "$x"]).as_deref(), Ok(r#""a b" $$x"#));
        assert!(container_command(["a", ""]).is_err());
        assert!(container_command([";"]).is_err());
    }

    #[test]
    fn environment_differs_between_units_and_containers() {
        assert_eq!(environment("A", "p%q $d"), r#""A=p%%q $d""#);
        assert_eq!(container_environment("A", "p%q $d"), r#""A=p%%q $$d""#);
        assert_eq!(environment("A", ""), "A=");
    }

    proptest! {
        #[test]
        fn what_is_sound_comes_back_as_it_was(
            entries in prop::collection::vec(("[A-Z][A-Za-z-]{0,9}", "[^\\\\\\p{C}]{0,20}"), 0..6)
        ) {
            let entries: Vec<(String, String)> =
                entries.into_iter().map(|(key, value)| (key, value.trim().to_owned())).collect();
            let unit = vec![("Unit".to_owned(), entries)];
            prop_assert_eq!(crate::compile::ini::sections(&render("x", &unit)), unit);
        }

        #[test]
        fn any_command_is_one_sound_value(arguments in prop::collection::vec("[^\\x00]{0,12}", 0..4)) {
            let unit = vec![("Service".to_owned(), vec![("ExecStart".to_owned(), command(&arguments))])];
            prop_assert_eq!(crate::compile::ini::sections(&render("x", &unit)), unit);
        }
    }
}
