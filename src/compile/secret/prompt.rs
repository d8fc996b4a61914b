//! A value that is typed, and not shown.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use rustix::io::ioctl_fionread;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::refusal::refuse;

/// Asks twice for a value at the terminal that is standard input.
///
/// # Errors
/// It was not the same both times, or taken back.
pub(super) fn ask(name: &str) -> Result<Vec<u8>> {
    // Before anything is asked, so that no answer is shown or lost; and until both are there, so that the second line of a pasted value
    // is taken for the second answer, and not thrown away.
    let _quiet = Quiet::new()?;
    // What is typed and not read yet is to be known.
    let mut unbuffered = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let first = ask_once(&format!("Value of {name}: "), &mut unbuffered)?;
    if ask_once("The same again: ", &mut unbuffered)? != first {
        refuse!("that was not the same, so nothing is changed");
    }
    if ioctl_fionread(&unbuffered).context("cannot ask the terminal")? > 0 {
        refuse!("that was more than one line, so nothing is changed");
    }
    Ok(first)
}

fn ask_once(question: &str, typed: &mut impl io::Read) -> Result<Vec<u8>> {
    let mut out = io::stderr();
    write!(out, "{question}")?;
    let line = line(typed);
    writeln!(out)?;
    let Some(line) = line? else { refuse!("nothing is changed") };
    Ok(line)
}

/// Reads what is typed up to the end of the line; nothing if it is taken back.
fn line(typed: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while typed.read(&mut byte)? > 0 {
        match byte[0] {
            b'\r' | b'\n' => return Ok(Some(line)),
            // Ctrl-C and Ctrl-D.
            3 | 4 => return Ok(None),
            // Backspace takes a whole character, of however many bytes.
            8 | 127 => while line.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            21 => line.clear(),
            byte => line.push(byte),
        }
    }
    Ok(None)
}

/// The terminal shows nothing, and leaves it to us what Ctrl-C is: otherwise it would stay like that after one.
struct Quiet(Termios);

impl Quiet {
    fn new() -> Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd()).context("cannot ask the terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(stdin.as_fd(), OptionalActions::Flush, &quiet).context("cannot set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_mended_and_taken_back() {
        let typed =
            |text: &str| line(&mut text.as_bytes()).unwrap().map(|line| String::from_utf8(line).unwrap());
        assert_eq!(typed("abc\r").unwrap(), "abc");
        assert_eq!(typed("aä\u{7f}\u{7f}b\n").unwrap(), "b");
        assert_eq!(typed("\u{8}abc\u{15}d\n").unwrap(), "d");
        assert_eq!(typed("abc\u{3}"), None);
        assert_eq!(typed("abc"), None);
    }
}
