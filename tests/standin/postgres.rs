//! Just enough of PostgreSQL's protocol 3.0: peer authentication and simple queries.

use crate::Outcome;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(10);
/// No row here is longer.
const MAX_MESSAGE: u32 = 16 * 1024 * 1024;

/// As whom to log in, and where.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// The directory of the socket.
    pub(crate) directory: PathBuf,
    pub(crate) user: String,
    pub(crate) database: String,
}

pub(crate) type Row = Vec<Option<String>>;

/// An open session. It ends when dropped.
pub(crate) struct Client(UnixStream);

impl Client {
    /// Logs in without a password, and makes sure that the server has let in whom it was asked to.
    pub(crate) fn connect(login: &Login) -> Outcome<Self> {
        Self::log_in(login).map_err(|why| {
            let Login { directory, user, database } = login;
            format!("PostgreSQL in {}, database {database:?}, user {user:?}: {why}", directory.display())
        })
    }

    fn log_in(login: &Login) -> Outcome<Self> {
        let stream = UnixStream::connect(login.directory.join(".s.PGSQL.5432"))
            .and_then(|stream| {
                stream.set_read_timeout(Some(TIME))?;
                stream.set_write_timeout(Some(TIME))?;
                Ok(stream)
            })
            .map_err(|why| format!("cannot connect: {why}"))?;
        let mut client = Self(stream);
        client.start(login)?;
        let rows = client.query("SELECT current_user")?;
        match rows.as_slice() {
            [row] if *row == [Some(login.user.clone())] => Ok(client),
            _ => Err(format!("the current user is {rows:?}")),
        }
    }

    fn start(&mut self, login: &Login) -> Outcome {
        self.send(&startup_message(login)?)?;
        let mut let_in = false;
        loop {
            match self.receive()? {
                (b'R', body) if body == [0; 4] => let_in = true,
                (b'R', _) => return Err("the server wants a password".into()),
                (b'E', body) => return Err(server_error(&body)),
                (b'Z', _) if let_in => return Ok(()),
                (b'S' | b'K' | b'N' | b'v', _) => {}
                (kind, _) => return Err(unexpected(kind)),
            }
        }
    }

    /// Runs one text of statements; gives the rows of all of them. `NULL` is `None`.
    pub(crate) fn query(&mut self, statements: &str) -> Outcome<Vec<Row>> {
        if statements.contains('\0') {
            return Err("a query cannot hold a zero byte".into());
        }
        self.send(&message(b"Q", &[statements.as_bytes(), &[0]])?)?;
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            match self.receive()? {
                (b'D', body) => rows.push(row(&body).ok_or("a row is not what it should be")?),
                (b'E', body) => error = error.or(Some(server_error(&body))),
                (b'Z', _) => return error.map_or(Ok(rows), Err),
                // The description of rows, the end of a statement, an empty one, parameters, notices.
                (b'T' | b'C' | b'I' | b'S' | b'N', _) => {}
                (kind, _) => return Err(unexpected(kind)),
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> Outcome {
        self.0.write_all(message).map_err(|why| broken(&why))
    }

    fn receive(&mut self) -> Outcome<(u8, Vec<u8>)> {
        receive(&mut self.0)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whether the server hears the good-bye changes nothing.
        let _ = self.0.write_all(b"X\0\0\0\x04");
    }
}

fn startup_message(login: &Login) -> Outcome<Vec<u8>> {
    const PROTOCOL_3_0: u32 = 3 << 16;
    let mut words = Vec::new();
    for word in ["user", &login.user, "database", &login.database, "application_name", "standin"] {
        if word.is_empty() || word.contains('\0') {
            return Err("the name of a user or database cannot be that".into());
        }
        words.extend_from_slice(word.as_bytes());
        words.push(0);
    }
    message(b"", &[&PROTOCOL_3_0.to_be_bytes(), &words, &[0]])
}

/// The length counts itself, but not the kind.
fn message(kind: &[u8], parts: &[&[u8]]) -> Outcome<Vec<u8>> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).map_err(|_| "the message is too long")?;
    Ok([kind, &length.to_be_bytes(), &body].concat())
}

fn receive(server: &mut impl Read) -> Outcome<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    server.read_exact(&mut head).map_err(|why| broken(&why))?;
    let [kind, length @ ..] = head;
    let length = match u32::from_be_bytes(length) {
        length @ 4..=MAX_MESSAGE => length - 4,
        _ => return Err("this is no PostgreSQL server".into()),
    };
    let mut body = vec![0; length as usize];
    server.read_exact(&mut body).map_err(|why| broken(&why))?;
    Ok((kind, body))
}

/// A count, then for each column its length and its text.
fn row(mut body: &[u8]) -> Option<Row> {
    let count = u16::from_be_bytes(take(&mut body)?);
    let mut row = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(take(&mut body)?);
        row.push(match usize::try_from(length) {
            Ok(length) => {
                let (text, rest) = body.split_at_checked(length)?;
                body = rest;
                Some(String::from_utf8(text.to_vec()).ok()?)
            }
            Err(_) => None,
        });
    }
    Some(row)
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*taken)
}

/// `FATAL 28000: Peer authentication failed for user "x"`, out of an error's tagged fields.
fn server_error(body: &[u8]) -> String {
    let field = |tag: u8| {
        let value = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[tag]));
        String::from_utf8_lossy(value.unwrap_or(b"?")).into_owned()
    };
    format!("{} {}: {}", field(b'S'), field(b'C'), field(b'M'))
}

fn unexpected(kind: u8) -> String {
    format!("the server's message {:?} was not expected", char::from(kind))
}

/// What may go wrong between two servers, in words for a person.
pub(crate) fn broken(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".into(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        _ => why.to_string(),
    }
}

/// A string constant, as `standard_conforming_strings` has it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_apart() {
        assert_eq!(row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"), Some(vec![Some("a".into()), None]));
        assert_eq!(row(b"\0\x01\0\0\0\x02a"), None);
        assert_eq!(row(b"\0\x01"), None);
        assert_eq!(row(b""), None);
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn messages_have_their_length() {
        assert_eq!(message(b"Q", &[b"a", b"\0"]), Ok(b"Q\0\0\0\x06a\0".to_vec()));
        assert_eq!(receive(&mut &b"Z\0\0\0\x05I"[..]), Ok((b'Z', b"I".to_vec())));
        assert!(receive(&mut &b"+PONG\r\n"[..]).is_err());
        assert_eq!(server_error(b"SFATAL\0C28000\0Mno\0\0"), "FATAL 28000: no");
    }
}
