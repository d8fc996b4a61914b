//! Says what is being done: a line for each thing, and on a terminal how much has come.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::compile::lock::Change;

/// How often the line on a terminal is drawn anew.
const DRAW: Duration = Duration::from_millis(200);

/// Says on standard error how things are going.
pub struct Progress {
    json: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the process that fetches them.
    bytes: BTreeMap<u32, u64>,
    drawn: Option<Instant>,
}

impl Progress {
    /// Plain lines, or an object a line for tools; on a terminal also a line that changes.
    pub fn new(json: bool) -> Self {
        Self { json, terminal: !json && io::stderr().is_terminal(), state: Mutex::default() }
    }

    /// Says what is begun.
    pub fn begin(&self, what: &str) {
        if self.json {
            self.say(&serde_json::json!({ "progress": what }).to_string());
        } else {
            self.say(what);
        }
    }

    /// Says what has become another in the lock.
    pub fn change(&self, change: &Change) {
        if self.json {
            self.say(&serde_json::json!({ "change": change }).to_string());
        } else {
            self.say(&change.to_string());
        }
    }

    /// Writes a line.
    fn say(&self, line: &str) {
        let mut state = self.state.lock();
        if let Ok(state) = &mut state {
            self.wipe(state);
        }
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// A process has written this many bytes; none once it has ended.
    pub(super) fn bytes(&self, process: u32, bytes: u64) {
        let Ok(mut state) = self.state.lock() else { return };
        if !self.terminal {
            return;
        }
        if bytes == 0 {
            state.bytes.remove(&process);
            self.wipe(&mut state);
            return;
        }
        state.bytes.insert(process, bytes);
        if state.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW) {
            return;
        }
        let mib = state.bytes.values().sum::<u64>() >> 20;
        let _ = write!(io::stderr(), "\r\x1b[K{mib} MiB …");
        state.drawn = Some(Instant::now());
    }

    fn wipe(&self, state: &mut State) {
        if self.terminal && state.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
