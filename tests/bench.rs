//! What `ci/bench` measures on real hosts. No clock decides whether these pass: they print, and assert only that the host did what is
//! measured.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::time::Instant;

use crate::support::{Host, activator, require_hosts};

/// Runs commands in turns; says of each run the wall milliseconds, those of processor time, and the command.
const RACE: &str = r#"
TIMEFORMAT='%R %U %S'
for ((run = 0; run <= RUNS; run++)); do
    for command; do
        took=$({ time eval "$command" > /dev/null 2>&1; } 2>&1)
        ((run == 0)) || echo "$took $command"
    done
done | awk '{ printf "%d %d", $1 * 1000, ($2 + $3) * 1000; $1 = $2 = $3 = ""; print substr($0, 3) }'
"#;

/// What a command took: milliseconds.
struct Took {
    median: u64,
    least: u64,
    /// The median of the processor time of the command and its children; not what PID 1 does for them.
    processor: u64,
}

#[test]
#[ignore = "a measurement: run ci/bench"]
fn small() {
    require_hosts!();
    let host = ready("arch-vps", &["small", "page", "setting"]);
    first(&host, "small");
    unchanged(&host, "small");

    let took = race(&host, &["rick-activate /root/page.tar", "rick-activate /root/small.tar"]);
    told("small: one changed page", &took["rick-activate /root/page.tar"]);
    host.ok(&["rick-activate", "/root/page.tar"]);
    let took = race(&host, &["rick-activate /root/setting.tar", "rick-activate /root/page.tar"]);
    told("small: one changed setting of Valkey", &took["rick-activate /root/setting.tar"]);
}

#[test]
#[ignore = "a measurement: run ci/bench"]
fn large() {
    require_hosts!();
    let host = ready("host0", &["large"]);
    first(&host, "large");
    unchanged(&host, "large");
}

/// A host with the activator and these bundles.
fn ready(name: &str, bundles: &[&str]) -> Host {
    let from = PathBuf::from(env::var_os("RICK_BENCH_BUNDLES").expect("ci/bench names the bundles"));
    let host = Host::boot(name);
    host.push(&activator(), "/usr/local/bin/rick-activate");
    for bundle in bundles {
        let file = format!("{bundle}.tar");
        host.push(&from.join(&file), &format!("/root/{file}"));
    }
    host
}

/// One sample: a host is new only once.
fn first(host: &Host, bundle: &str) {
    // What others have written on this machine is not this activation's to wait for.
    host.ok(&["sync"]);
    let start = Instant::now();
    host.ok(&["rick-activate", &format!("/root/{bundle}.tar")]);
    let milliseconds = start.elapsed().as_millis();
    println!("measured\t{bundle}: first activation (once)\t{milliseconds}\tms");
}

/// The same bundle again, beside reading it, and the programs that this runs.
fn unchanged(host: &Host, bundle: &str) {
    let activate = format!("rick-activate /root/{bundle}.tar");
    let read = format!("sha256sum /root/{bundle}.tar");
    let units =
        host.sh("systemctl list-dependencies --plain rick.target | tail -n +2 | tee /root/units | wc -l");
    let show = "systemctl show --property LoadState -- $(< /root/units)".to_owned();
    let images = "podman images".to_owned();
    let said = host.ok(&["rick-activate", &format!("/root/{bundle}.tar")]);
    assert!(said.contains("nothing to do"), "{said}");
    let took = race(host, &[&activate, &read, &show, &images]);
    told(&format!("{bundle}: unchanged"), &took[&activate]);
    told(&format!("  sha256sum of {bundle}.tar"), &took[&read]);
    println!(
        "measured\t{bundle}: unchanged, beyond reading\t{}\tms\t{}\t{}",
        took[&activate].median.saturating_sub(took[&read].median),
        took[&activate].least.saturating_sub(took[&read].least),
        took[&activate].processor.saturating_sub(took[&read].processor),
    );
    told("  systemctl show of the units that run", &took[&show]);
    told("  podman images", &took[&images]);

    host.sh(&format!("strace -f -qq -e trace=execve -e status=successful -o /root/trace {activate}"));
    let trace = host.sh("sed -n 's/.*execve(\"\\([^\"]*\\)\".*/\\1/p' /root/trace");
    let started: Vec<&str> = trace.lines().skip(1).collect();
    eprintln!("{bundle}: unchanged, programs started: {}", started.join(", "));
    println!("measured\t{bundle}: unchanged, programs started\t{}\tprograms", started.len());
    println!("measured\t{bundle}: units that run\t{units}\tunits");
}

/// What each command takes.
fn race(host: &Host, commands: &[&str]) -> BTreeMap<String, Took> {
    let runs = env::var("RICK_BENCH_RUNS").unwrap_or_else(|_| "15".into());
    let script = RACE.replace("RUNS", &runs);
    let said = host.ok(&[&["bash", "-euo", "pipefail", "-c", &script, "race"], commands].concat());
    let mut samples: BTreeMap<String, Vec<[u64; 2]>> = BTreeMap::new();
    for line in said.lines() {
        let mut parts = line.splitn(3, ' ');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).expect("a number");
        let took = [number(), number()];
        samples.entry(parts.next().expect("a command").to_owned()).or_default().push(took);
    }
    samples.into_iter().map(|(command, samples)| (command, Took::of(&samples))).collect()
}

impl Took {
    fn of(samples: &[[u64; 2]]) -> Self {
        let sorted = |which: usize| {
            let mut all: Vec<u64> = samples.iter().map(|sample| sample[which]).collect();
            all.sort_unstable();
            all
        };
        let (wall, processor) = (sorted(0), sorted(1));
        let middle = samples.len() / 2;
        Self { median: wall[middle], least: wall[0], processor: processor[middle] }
    }
}

fn told(what: &str, took: &Took) {
    println!("measured\t{what}\t{}\tms\t{}\t{}", took.median, took.least, took.processor);
}
