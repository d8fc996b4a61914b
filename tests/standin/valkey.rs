//! Just enough of Valkey's protocol: two commands, each on its line.

use crate::Outcome;
use crate::postgres::broken;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(10);

/// Is a server there, does it answer, and does it have the database?
pub(crate) fn check(socket: &Path, database: u32) -> Outcome {
    speak(socket, database).map_err(|why| format!("Valkey at {}: {why}", socket.display()))
}

fn speak(socket: &Path, database: u32) -> Outcome {
    let stream = UnixStream::connect(socket)
        .and_then(|stream| {
            stream.set_read_timeout(Some(TIME))?;
            stream.set_write_timeout(Some(TIME))?;
            Ok(stream)
        })
        .map_err(|why| format!("cannot connect: {why}"))?;
    ask(&stream, "PING", "+PONG")?;
    ask(&stream, &format!("SELECT {database}"), "+OK")
}

fn ask(mut stream: &UnixStream, command: &str, expected: &str) -> Outcome {
    stream.write_all(format!("{command}\r\n").as_bytes()).map_err(|why| broken(&why))?;
    let mut line = Vec::new();
    // Nothing follows an answer before the next question, so no byte is lost with the buffer.
    BufReader::new(stream.take(1024)).read_until(b'\n', &mut line).map_err(|why| broken(&why))?;
    match String::from_utf8_lossy(&line).trim_end() {
        answer if answer == expected => Ok(()),
        answer => Err(format!("{command} was answered with {answer:?}")),
    }
}
