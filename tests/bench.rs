//! What `ci/bench` measures on real hosts. No clock decides whether these pass: they print, and assert only that the host did what is
//! measured.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

mod peer;

use crate::support::{Host, activator, kept, require_hosts, signing, source};

/// Runs a command; prints the milliseconds of wall time and of processor time, then what the command said.
const TIMED: &str = r#"
TIMEFORMAT='%R %U %S'
{ time eval "$1" > /tmp/said 2>&1; } 2> /tmp/took || { code=$?; cat /tmp/said >&2; exit "$code"; }
awk '{ printf "%d %d\n", $1 * 1000, ($2 + $3) * 1000 }' /tmp/took
cat /tmp/said
"#;

/// Runs a command; prints how much memory its own process has had at most, in KiB, and how much processor time, in ticks of 10 ms: both
/// without those that it starts. It is held up at its end, so that what is read last is the whole story.
const AT_END: &str = r#"
strace -qq -o /dev/null -e trace=exit_group -e inject=exit_group:delay_enter=500000 $1 > /tmp/said 2>&1 &
tracer=$!
while kill -0 "$tracer" 2> /dev/null; do
    traced=$(pgrep --parent "$tracer") || traced=
    awk '/^VmHWM:/ { peak = $2 } NR == FNR { next } { sub(/.*\) /, ""); if (peak) print peak, $12 + $13 }' \
        "/proc/$traced/status" "/proc/$traced/stat" 2> /dev/null || true
    sleep 0.05
done | tail -n 1
wait "$tracer" || { cat /tmp/said >&2; exit 1; }
"#;

/// Ansible takes minutes for what is measured here, and a loaded machine makes them more.
const PATIENCE_S: &str = "1800";

/// What one run took: milliseconds of wall time and of processor time.
type Sample = [u64; 2];

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

    let [small, page, setting] = ["small", "page", "setting"].map(|bundle| at_once(&host, bundle));
    let took = race(&host, &[&page, &small]);
    told("small: one changed page", &took[&page]);
    timed(&host, &page);
    let took = race(&host, &[&setting, &page]);
    told("small: one changed setting of Valkey", &took[&setting]);
}

#[test]
#[ignore = "a measurement: run ci/bench"]
fn large() {
    require_hosts!();
    let host = ready("host0", &["large"]);
    first(&host, "large");
    unchanged(&host, "large");
}

/// How much memory the activator takes, with a bundle of many files, with one of large files, and with one that
/// carries a large image.
#[test]
#[ignore = "a measurement: run ci/bench"]
fn memory() {
    require_hosts!();
    for (name, bundle) in [("host0", "large"), ("media", "media"), ("heavy", "heavy")] {
        let host = ready(name, &[bundle]);
        let activate = format!("rick-activate {}/root/{bundle}.tar", in_foreground(&host));
        for what in ["first activation", "unchanged"] {
            let [kibibytes, _] = at_end(&host, &activate);
            println!("measured\t{bundle}: {what}, memory\t{:.1}\tMiB", f64::from(kibibytes) / 1024.0);
        }
        let (_, said) = timed(&host, &activate);
        assert!(said.contains("nothing to do"), "{said}");
    }
}

/// How fast a bundle is verified that comes as standard input, beside what only hashes it.
#[test]
#[ignore = "a measurement: run ci/bench"]
fn verify() {
    require_hosts!();
    let host = ready("heavy", &["heavy"]);
    first(&host, "heavy");
    let bytes: f64 = host.sh("stat -c %s /root/heavy.tar").parse().expect("a number");
    for (from, begin, end) in
        [("a pipe", "cat /root/heavy.tar | ", ""), ("a file as standard input", "", " < /root/heavy.tar")]
    {
        let [verify, read] =
            ["rick-activate --dry-run -", "sha256sum"].map(|command| format!("{begin}{command}{end}"));
        let took = race(&host, &[&verify, &read]);
        told(&format!("heavy: verified, from {from}"), &took[&verify]);
        told("  sha256sum of the same", &took[&read]);
        for (what, command) in [("heavy: verified", &verify), ("  sha256sum", &read)] {
            let speed = bytes / 1e6 / f64::from(u32::try_from(took[command].median).unwrap());
            println!("measured\t{what}, from {from}\t{speed:.2}\tGB/s");
        }
    }
}

/// What it takes to copy and to restore what a service keeps, beside restic by hand, on repositories of one kind that open with the same key.
/// What restic by hand restored is flushed to the disk, as rick does.
#[test]
#[ignore = "a measurement: run ci/bench"]
fn kept() {
    require_hosts!();
    let tree = source::modules();
    kept::environment(&tree, "box", kept::LOCAL, "keeper()");
    let host = kept::boot("box");
    kept::activate(&host, &tree, "box");
    host.sh(MIXED);
    kept::backup(&host, "keeper");
    let policy = "--keep-last 3 --keep-daily 7 --keep-weekly 4 --keep-monthly 6";
    let by_hand =
        |more: &str| format!("export RESTIC_PASSWORD='correct horse' RESTIC_REPOSITORY=/srv/hand; {more}");
    let (tags, of) = ("--host box --tag box,keeper", "--group-by host");
    let hand = [
        by_hand(&format!(
            "restic backup -q --host box --tag box --tag keeper /var/lib/keeper /srv/keeper-more; restic forget -q --prune {tags} {of} {policy}"
        )),
        by_hand(
            "restic restore -q latest --host box --tag box,keeper --target / && sync --file-system /var/lib/keeper",
        ),
    ];
    let rick = ["rick-activate backup keeper", "systemctl start keeper"];
    host.sh("RESTIC_PASSWORD='correct horse' restic init -q --repo /root/empty");
    let empty = |place: &str| {
        format!(
            "systemctl stop keeper; rm -rf /root/.cache/restic /var/cache/rick-backup/*; rm -rf {place}; cp -a /root/empty {place}; sync"
        )
    };
    let lose =
        "systemctl stop keeper; mv /var/lib/keeper /root/lost; rm -rf /root/lost /srv/keeper-more/*; sync";

    let mut samples: [[Vec<Sample>; 2]; 3] = Default::default();
    // One round more than is counted: the first warms up.
    for round in 0..=runs() {
        for (which, place, backup, restore) in
            [(0, "/srv/hand", hand[0].as_str(), hand[1].as_str()), (1, "/srv/backups", rick[0], rick[1])]
        {
            host.sh(&empty(place));
            let first = timed(&host, backup).0;
            let unchanged = timed(&host, backup).0;
            let there = kept::everything(&host, "/var/lib/keeper");
            host.sh(lose);
            let restored = timed(&host, restore).0;
            assert!(kept::everything(&host, "/var/lib/keeper") == there, "{restore}");
            for (what, sample) in [first, unchanged, restored].into_iter().enumerate().filter(|_| round > 0) {
                samples[what][which].push(sample);
            }
        }
    }
    for (what, [hand, rick]) in ["first copy", "copy, nothing changed", "restore"].iter().zip(&samples) {
        let (hand, rick) = (Took::of(hand), Took::of(rick));
        told(&format!("kept: {what}"), &rick);
        let times =
            f64::from(u32::try_from(hand.median).unwrap()) / f64::from(u32::try_from(rick.median).unwrap());
        println!(
            "measured\t  restic by hand; times: of its throughput\t{}\tms\t{}\t{}\t{times:.2}",
            hand.median, hand.least, hand.processor
        );
    }
}

/// 5,000 files, 200 MB: half of them cannot be compressed.
const MIXED: &str = r#"
cd /var/lib/keeper
for folder in $(seq 50); do
    mkdir "$folder"
    for file in $(seq 49); do
        head -c 20000 /dev/urandom >"$folder/$file.bin"
        head -c 15000 /dev/urandom | base64 >"$folder/$file.txt"
    done
    head -c 1000000 /dev/urandom >"$folder/large.bin"; head -c 800000 /dev/urandom | base64 >"$folder/large.txt"
done
chown -R keeper:keeper .; echo more >/srv/keeper-more/file; sync"#;

/// Runs the activator; gives how many KiB its process has had at most, and its milliseconds of processor time.
fn at_end(host: &Host, command: &str) -> [u32; 2] {
    let said = host.ok(&["bash", "-euo", "pipefail", "-c", AT_END, "at-end", command]);
    let numbers =
        said.split_once(' ').and_then(|(peak, ticks)| Some((peak.parse().ok()?, ticks.parse().ok()?)));
    let (peak, ticks): (u32, u32) = numbers.unwrap_or_else(|| panic!("no numbers: {said}"));
    [peak, 10 * ticks]
}

/// What `ci/bench` has made.
fn bundles() -> PathBuf {
    PathBuf::from(env::var_os("RICK_BENCH_BUNDLES").expect("ci/bench names the bundles"))
}

/// A host with the activator and these bundles.
fn ready(name: &str, bundles: &[&str]) -> Host {
    let from = self::bundles();
    let host = Host::boot(name);
    host.push(&activator(), "/usr/local/bin/rick-activate");
    for bundle in bundles {
        let file = format!("{bundle}.tar");
        // As hosts want it.
        let signed = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut sign = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
        sign.arg("sign").arg(from.join(&file)).args(["--key", signing::key(), "--output"]).arg(signed.path());
        assert!(sign.status().expect("rickbuild runs").success());
        host.push(signed.path(), &format!("/root/{file}"));
    }
    host
}

/// Those of these options, with a space behind each, that the activator has: it may be an older one.
fn options(host: &Host, options: &[&str]) -> String {
    let help = host.ok(&["rick-activate", "--help"]);
    let has = |option: &&&str| option.split(' ').next().is_some_and(|name| help.contains(name));
    options.iter().filter(has).flat_map(|option| [*option, " "]).collect()
}

/// The options by which all of a switch is done by the process that is called, so that one can look at it.
fn in_foreground(host: &Host) -> String {
    let options = options(host, &["--foreground"]);
    if !options.is_empty() {
        // Where PID 1 looks for it, and where a run that is no such one has put it.
        host.sh("install -D /usr/local/bin/rick-activate /var/lib/rick/bin/rick-activate");
    }
    options
}

/// The activation of a bundle that is done when the jobs are, and does not watch the services for a while.
fn at_once(host: &Host, bundle: &str) -> String {
    format!("rick-activate {}/root/{bundle}.tar", options(host, &["--settle 0"]))
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

/// What each command takes, run in turns.
fn race(host: &Host, commands: &[&str]) -> BTreeMap<String, Took> {
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    // One round more than is counted: the first warms up.
    for round in 0..=runs() {
        for command in commands {
            let (sample, _) = timed(host, command);
            if round > 0 {
                samples.entry((*command).to_owned()).or_default().push(sample);
            }
        }
    }
    samples.into_iter().map(|(command, samples)| (command, Took::of(&samples))).collect()
}

fn runs() -> usize {
    env::var("RICK_BENCH_RUNS").map_or(15, |runs| runs.parse().expect("a number"))
}

/// How often Ansible does a thing.
fn ansible_runs() -> usize {
    env::var("RICK_BENCH_ANSIBLE_RUNS").map_or(2, |runs| runs.parse().expect("a number"))
}

/// Runs a command once, timed on the host; gives what it said, too.
fn timed(host: &Host, command: &str) -> (Sample, String) {
    let script = ["bash", "-euo", "pipefail", "-c", TIMED, "timed", command];
    let output = host.command_within(PATIENCE_S, &script).output().expect("nsenter runs");
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {}\n{complaint}", output.status);
    let (numbers, said) = said.split_once('\n').expect("a line of numbers");
    let (wall, processor) = numbers.split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse().expect("a number");
    ([number(wall), number(processor)], said.to_owned())
}

impl Took {
    fn of(samples: &[Sample]) -> Self {
        let sorted = |which: usize| {
            let mut all: Vec<u64> = samples.iter().map(|sample| sample[which]).collect();
            all.sort_unstable();
            all
        };
        let (wall, processor) = (sorted(0), sorted(1));
        let middle = (samples.len() - 1) / 2;
        Self { median: wall[middle], least: wall[0], processor: processor[middle] }
    }
}

fn told(what: &str, took: &Took) {
    println!("measured\t{what}\t{}\tms\t{}\t{}", took.median, took.least, took.processor);
}

/// The same with how many times that of another it is.
fn told_against(what: &str, took: &Took, other: &Took) {
    println!(
        "measured\t{what}\t{}\tms\t{}\t{}\t{}",
        took.median,
        took.least,
        took.processor,
        took.median / other.median.max(1)
    );
}
