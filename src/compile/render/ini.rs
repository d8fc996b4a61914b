//! Unit files and Quadlet files: sections to text and back, and the quoting of command lines inside them.
//!
//! A value in [`Sections`] is raw: what stands after the `=` in the file, on one line. [`command`], [`environment`] and
//! [`container_environment`] make raw values out of plain text; nothing else does.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write as _;

use crate::compile::item::Sections;

/// The text of a unit or Quadlet file; `header` becomes a comment in its first line.
///
/// Total on purpose: what [`problem`] complains about is written as near as the syntax can hold it, and can never become another
/// line, key or section.
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

/// What about these sections no unit file can hold, if there is something: for `check`, before they are rendered.
pub fn problem(sections: &Sections) -> Option<String> {
    sections.iter().find_map(|(name, entries)| {
        section_problem(name).or_else(|| entries.iter().find_map(|(key, value)| entry_problem(key, value)))
    })
}

fn section_problem(name: &str) -> Option<String> {
    let good = !name.is_empty() && !name.contains(|c: char| matches!(c, '[' | ']') || c.is_control());
    (!good).then(|| format!("`{}` is no section name", name.escape_debug()))
}

fn entry_problem(key: &str, value: &str) -> Option<String> {
    let good = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !good {
        return Some(format!("`{}` is no key", key.escape_debug()));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Some(format!(
            "the value of `{key}` holds a line break or another control character: write a list in place of a text with several lines"
        ));
    }
    if ends_in_continuation(value) {
        return Some(format!("the value of `{key}` ends in a backslash, which would swallow the next line"));
    }
    None
}

/// `text` without what would end the line or join the next one to it.
fn one_line(text: &str) -> String {
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = line.trim().to_owned();
    if ends_in_continuation(&line) {
        line.pop();
    }
    line
}

/// systemd pairs backslashes from the left; an odd number at the end joins the next line.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

/// A line that does not parse: its number, from 1, and what is wrong with it.
pub type SyntaxError = (usize, String);

/// Reads a unit or Quadlet file as systemd does; values stay raw, repeated sections are merged in order.
///
/// # Errors
/// The first line that is neither a comment, a section nor an assignment.
pub fn parse(text: &str) -> Result<Sections, SyntaxError> {
    let mut sections = Sections::new();
    let mut current = None;
    for (number, line) in logical_lines(text) {
        match parse_line(&line).map_err(|message| (number, message))? {
            Line::Section(name) => current = Some(section_index(&mut sections, name)),
            Line::Entry(key, value) => {
                let index = current
                    .ok_or_else(|| (number, format!("`{}` stands before any section", key.escape_debug())))?;
                sections[index].1.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(sections)
}

/// What a line that is no comment can say.
enum Line<'a> {
    Section(&'a str),
    Entry(&'a str, &'a str),
}

fn parse_line(line: &str) -> Result<Line<'_>, String> {
    if let Some(rest) = line.strip_prefix('[') {
        let name = rest.strip_suffix(']').ok_or("the section header has no `]` at its end")?;
        return section_problem(name).map_or(Ok(Line::Section(name)), Err);
    }
    let (key, value) = line.split_once('=').ok_or_else(|| {
        format!("`{}` is neither a comment, a `[Section]` nor `Key=value`", line.escape_debug())
    })?;
    let (key, value) = (key.trim_end(), value.trim_start());
    entry_problem(key, value).map_or(Ok(Line::Entry(key, value)), Err)
}

fn section_index(sections: &mut Sections, name: &str) -> usize {
    sections.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        sections.push((name.to_owned(), Vec::new()));
        sections.len() - 1
    })
}

/// Lines without comments and empty ones, continued lines joined, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        // Also between continued lines, where systemd skips a comment without ending the continuation.
        if line.starts_with(['#', ';']) {
            continue;
        }
        let (number, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        joined.push_str(line);
        if ends_in_continuation(&joined) {
            joined.pop();
            joined.push(' ');
            open = Some((number, joined));
        } else {
            lines.push((number, joined));
        }
    }
    lines.extend(open);
    lines.retain_mut(|(_, line)| {
        line.truncate(line.trim_end().len());
        !line.is_empty()
    });
    lines
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
            "" => return Err("Quadlet drops an empty argument and all that follow it".to_owned()),
            ";" => {
                return Err(
                    "Quadlet unquotes the argument `;`, and systemd takes it for the end of the command"
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
    fn problems_are_named() {
        for (key, value) in [("", "x"), ("A B", "x"), ("#A", "x"), ("A", "x\ny"), ("A", "x\\"), ("A=B", "x")]
        {
            assert!(problem(&sections(&[("Unit", &[(key, value)])])).is_some(), "{key:?} {value:?}");
        }
        for name in ["", "a]b", "a\nb"] {
            assert!(problem(&sections(&[(name, &[])])).is_some(), "{name:?}");
        }
        assert_eq!(problem(&sections(&[("Unit", &[("X-Rick-Groups", "a\tb\\\\")])])), None);
    }

    #[test]
    fn parsing_follows_systemd() {
        let text = "\u{feff}# a comment\n; another\n[Unit]\n  Description = Some thing  \n\n[Service]\r\n\
                    ExecStart=/bin/sh \\\n# inside\n   -c \\\n  'a; b'\nEnvironment=\n[Unit]\nAfter=a.service\n\
                    [Install]\nWantedBy=x.target \\";
        let expected = sections(&[
            ("Unit", &[("Description", "Some thing"), ("After", "a.service")]),
            ("Service", &[("ExecStart", "/bin/sh  -c  'a; b'"), ("Environment", "")]),
            ("Install", &[("WantedBy", "x.target")]),
        ]);
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn syntax_errors_know_their_line() {
        for (text, line) in [
            ("A=b", 1),
            ("[Unit]\nnonsense", 2),
            ("[Unit]\n\n=x", 3),
            ("[Unit\nA=b", 1),
            ("[]\n", 1),
            ("[Unit]\nA=x \\\n y\nB", 4),
            ("[Unit]\nA B=x", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text:?}");
        }
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
            prop_assert_eq!(problem(&unit), None);
            prop_assert_eq!(parse(&render("x", &unit)).unwrap(), unit);
        }

        #[test]
        fn any_command_is_one_sound_value(arguments in prop::collection::vec("[^\\x00]{0,12}", 0..4)) {
            let unit = vec![("Service".to_owned(), vec![("ExecStart".to_owned(), command(&arguments))])];
            prop_assert_eq!(problem(&unit), None);
            prop_assert_eq!(parse(&render("x", &unit)).unwrap(), unit);
        }

        #[test]
        fn parsing_any_text_gives_sections_that_render_the_same(text in "[\\[\\]=#;\\\\\n A-C\"']{0,60}") {
            if let Ok(unit) = parse(&text) {
                prop_assert_eq!(problem(&unit), None);
                prop_assert_eq!(parse(&render("x", &unit)).unwrap(), unit);
            }
        }
    }
}
