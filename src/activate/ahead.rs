//! A file or standard input is read by a thread of its own, a little ahead of who verifies the bundle in it: one core reads while another hashes.

use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::bundle::ustar::read_some;

/// How many buffers there are: one that is taken from, one that waits, one that is read into.
const BUFFERS: usize = 3;
/// The size of each, in bytes.
const BUFFER: usize = 256 << 10;

/// The bytes of another reader, in their order; an error stands where it stood.
#[derive(Debug)]
pub struct Ahead {
    /// Buffers and how much of each was read, the next first. It ends where the input does.
    full: Receiver<io::Result<(Vec<u8>, usize)>>,
    /// Buffers to be filled again.
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    /// What of `buffer` was read and not taken yet.
    left: Range<usize>,
}

impl Ahead {
    /// Begins to read. The thread waits when it has read a few buffers that nobody took, and ends with the input, with an error, or when
    /// nobody takes any more. Nobody waits for it: a pipe may say nothing for ever.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn of(from: impl Read + Send + 'static) -> io::Result<Self> {
        let (filled, full) = channel();
        let (empty, emptied) = channel();
        for _ in 1..BUFFERS {
            // Cannot fail: the other end is still here.
            let _ = empty.send(Vec::new());
        }
        thread::Builder::new().spawn(move || fill(from, &emptied, &filled))?;
        Ok(Self { full, empty, buffer: Vec::new(), left: 0..0 })
    }
}

fn fill(mut from: impl Read, empty: &Receiver<Vec<u8>>, full: &Sender<io::Result<(Vec<u8>, usize)>>) {
    for mut buffer in empty {
        buffer.resize(BUFFER, 0);
        let read = match read_some(&mut from, &mut buffer) {
            Ok(0) => return,
            read => read.map(|size| (buffer, size)),
        };
        let goes_on = read.is_ok();
        if full.send(read).is_err() || !goes_on {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            let Ok(next) = self.full.recv() else { return Ok(0) };
            let (buffer, size) = next?;
            // If the thread has ended, nobody fills it.
            let _ = self.empty.send(mem::replace(&mut self.buffer, buffer));
            self.left = 0..size;
        }
        let taken = (&self.buffer[self.left.clone()]).read(to)?;
        self.left.start += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::*;

    /// Gives few bytes at a time, and then an error.
    struct Breaks(Cursor<Vec<u8>>);

    impl Read for Breaks {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let most = to.len().min(1000);
            match self.0.read(&mut to[..most])? {
                0 => Err(io::Error::other("the disk is gone")),
                got => Ok(got),
            }
        }
    }

    /// Never ends, and tells when nobody has it any more.
    struct Endless(Sender<()>);

    impl Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            Ok(to.len())
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    fn bytes(size: usize) -> Vec<u8> {
        (0..=250).cycle().take(size).collect()
    }

    #[test]
    fn all_bytes_come_in_their_order_whatever_is_taken_at_a_time() {
        for size in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 5 * BUFFER + 7] {
            for at_a_time in [512, BUFFER, 3 * BUFFER] {
                let (mut ahead, mut all) = (Ahead::of(Cursor::new(bytes(size))).unwrap(), Vec::new());
                let mut part = vec![0; at_a_time];
                loop {
                    match ahead.read(&mut part).unwrap() {
                        0 => break,
                        got => all.extend_from_slice(&part[..got]),
                    }
                }
                assert!(all == bytes(size), "{size} {at_a_time}");
                assert_eq!(ahead.read(&mut part).unwrap(), 0);
            }
        }
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        let (mut ahead, mut all) = (Ahead::of(Breaks(Cursor::new(bytes(700_000)))).unwrap(), Vec::new());
        assert_eq!(ahead.read_to_end(&mut all).unwrap_err().to_string(), "the disk is gone");
        assert!(all == bytes(700_000));
    }

    #[test]
    fn nothing_is_read_for_somebody_who_is_gone() {
        let (gone, ended) = channel();
        let mut ahead = Ahead::of(Endless(gone)).unwrap();
        ahead.read_exact(&mut [0; 100]).unwrap();
        assert!(ended.try_recv().is_err());
        drop(ahead);
        ended.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    /// Somebody may say nothing more, and not go away either, when a bundle has been refused already.
    #[test]
    fn nobody_waits_for_the_thread() {
        let (reader, writer) = io::pipe().unwrap();
        let (dropped, done) = channel();
        thread::spawn(move || {
            drop(Ahead::of(reader).unwrap());
            dropped.send(())
        });
        done.recv_timeout(Duration::from_secs(20)).unwrap();
        drop(writer);
    }
}
