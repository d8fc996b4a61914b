//! Does it answer? Probes are asked until they are answered or their time is up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::host::Host;
use super::report::{Problem, Report};
use crate::bundle::manifest::Probe;

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks all probes; gives those that were not answered. Their times run side by side.
pub fn probe<'a>(
    host: &dyn Host,
    probes: impl IntoIterator<Item = &'a Probe>,
    report: &mut Report,
) -> Vec<Problem> {
    let start = Instant::now();
    let mut problems = Vec::new();
    for probe in probes.into_iter().filter(|_| host.is_running()) {
        let deadline = start + Duration::from_secs(u64::from(probe.timeout_s));
        match answered_before(host, probe, deadline) {
            Ok(()) => report.line("answers", &format!("{}: {}", probe.service, probe.check)),
            Err(error) => problems.push(Problem::new(format!(
                "{} did not answer within {} s: {error:#}",
                probe.service, probe.timeout_s
            ))),
        }
    }
    problems
}

fn answered_before(host: &dyn Host, probe: &Probe, deadline: Instant) -> anyhow::Result<()> {
    loop {
        match host.answers(&probe.check) {
            Err(_) if Instant::now() < deadline => sleep(PAUSE),
            answer => return answer,
        }
    }
}
