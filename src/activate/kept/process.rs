//! A restic that runs: what it waits for is passed on while it waits, and what it complained of is told in lines.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::refusal::printable;

/// What restic says, among other things, when it tries again after a while. It does so for a quarter of an hour.
const TRIES_AGAIN: &str = ", retrying after ";
/// How many of its last lines are a complaint.
const LINES: usize = 4;
/// How many bytes at the end of all that restic said are kept for that, at least: it may complain of each of very many files.
const KEPT: usize = 64 << 10;

/// Runs restic to its end, with `input` or the standard input that the command has.
pub(super) fn run(mut command: Command, input: Option<&[u8]>) -> Result<Output> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        child.with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let ended = thread::scope(|scope| {
        let heard = stderr.map(|stderr| scope.spawn(|| listen(stderr, &mut io::stderr())));
        let told = stdin
            .zip(input)
            .map(|(mut stdin, input)| scope.spawn(move || stdin.write_all(input).or_else(hung_up)));
        let mut output = child.wait_with_output()?;
        output.stderr = heard.and_then(|heard| heard.join().ok()).unwrap_or_default();
        told.and_then(|told| told.join().ok()).transpose()?;
        Ok(output)
    });
    ended.map_err(|error: io::Error| anyhow::Error::new(error).context("restic ended in an unknown way"))
}

/// The end of what is said. What restic waits for is passed on to `people` at once.
fn listen(stderr: impl Read, people: &mut impl io::Write) -> Vec<u8> {
    let (mut said, mut lines) = (Vec::new(), BufReader::new(stderr));
    loop {
        if said.len() > 2 * KEPT {
            said.drain(..said.len() - KEPT);
        }
        let begin = said.len();
        if !matches!(lines.read_until(b'\n', &mut said), Ok(1..)) {
            return said;
        }
        let line = String::from_utf8_lossy(&said[begin..]);
        if line.contains(TRIES_AGAIN) {
            // Nobody may read it, which changes nothing.
            let _ = writeln!(people, "restic: {}", printable(line.trim()));
        }
    }
}

/// The last of what restic said before it failed, in one line: its JSON as text, and of what it waited for the last.
pub(super) fn complaint(stderr: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        /// Of one file.
        Error { error: Message },
        /// At the end.
        End(Message),
    }
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(|line| match serde_json::from_str(line) {
        Ok(Said::Error { error } | Said::End(error)) => error.message,
        Err(_) => line.to_owned(),
    });
    let whole = lines.collect::<Vec<_>>().join("\n");
    let mut lines: Vec<&str> = whole.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last_try = lines.iter().rposition(|line| line.contains(TRIES_AGAIN));
    let mut index = 0..;
    lines.retain(|line| {
        let index = index.next();
        !line.contains(TRIES_AGAIN) || index == last_try
    });
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

/// That nobody reads the rest is told by the exit code.
fn hung_up(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: &str =
        "Stat(<config/>) returned error, retrying after 4.9s: Stat: connection \x1b[31mrefused\n";

    #[test]
    fn what_restic_waits_for_is_passed_on_and_obeyed_by_no_terminal() {
        let said = format!("one\n{WAITS}two\nno end");
        let mut people = Vec::new();
        assert_eq!(listen(said.as_bytes(), &mut people), said.as_bytes());
        let expected = "restic: Stat(<config/>) returned error, retrying after 4.9s: Stat: connection \\u{1b}[31mrefused\n";
        assert_eq!(String::from_utf8(people).unwrap(), expected);
    }

    #[test]
    fn a_complaint_is_text_and_tells_of_one_try() {
        let end = r#"{"message_type":"exit_error","code":1,"message":"Fatal: no config: denied.\nIs there one?\ns3:x"}"#;
        let said = format!("{WAITS}{WAITS}\n{end}\n").replace("4.9s", "5s").replacen("5s", "4s", 1);
        assert_eq!(
            complaint(said.as_bytes()),
            "Stat(<config/>) returned error, retrying after 5s: Stat: connection \x1b[31mrefused; \
             Fatal: no config: denied.; Is there one?; s3:x"
        );
        let error = r#"{"message_type":"error","error":{"message":"open /x: denied"},"during":"archival","item":"/x"}"#;
        assert_eq!(complaint(error.as_bytes()), "open /x: denied");
        assert_eq!(complaint(b"a\nb\nc\nd\n\n e \n"), "b; c; d; e");
        assert_eq!(complaint(b""), "");
    }

    #[test]
    fn input_and_output_go_through_whole_and_of_complaints_the_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "tee /dev/stderr; exit 3"]);
        let input = b"line\n".repeat(100_000);
        let output = run(command, Some(&input)).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout == input && (KEPT..=3 * KEPT).contains(&output.stderr.len()));
        let mut deaf = Command::new("true");
        deaf.stdin(Stdio::null());
        assert!(run(deaf, Some(&input)).unwrap().status.success());
    }
}
