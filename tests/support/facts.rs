//! What the model of systemd (`src/activate/model.rs`) takes for granted, as a table that both it and a real systemd are held
//! to. In both crates: the host test boots a host for it, a unit test asks the model.
//!
//! A script is steps with semicolons between:
//!
//! - `write KIND UNIT VERSION [WORDS]`, `remove UNIT` and `mask UNIT` change files, each by the rename that makes another generation
//!   current. systemd hears of none before `daemon-reload`.
//! - `start`, `stop`, `restart`, `reload` and `reset-failed` must succeed, and must not after `no`. `begin` starts without waiting,
//!   `kill` kills the process, `wait UNIT ACTIVE` waits for that.
//! - `UNIT is ACTIVE [LOAD]`; `UNIT has VERSION`, of its definition when it was last started; `UNIT lives on` and `UNIT lives anew` since
//!   the last `mark UNIT`; `UNIT has no life`; `UNIT is [not] listed`, among the instances of its template.

/// What systemd does, and how that shows.
pub(crate) type Fact = (&'static str, &'static str);

/// The facts.
pub(crate) const FACTS: &[Fact] = &[
    (
        "a restart begins a new life, a start of what runs does not",
        "write service a.service 1; daemon-reload; start a.service; mark a.service; \
         start a.service; a.service lives on; restart a.service; a.service lives anew",
    ),
    (
        "a restart of what does not run starts it",
        "write service a.service 1; daemon-reload; restart a.service; a.service is active",
    ),
    (
        "a daemon-reload and a reload keep the life, and with it what it was started with",
        "write service a.service 1; daemon-reload; start a.service; mark a.service; \
         write service a.service 2; daemon-reload; a.service lives on; reload a.service; \
         a.service lives on; a.service has 1; restart a.service; a.service has 2",
    ),
    (
        "what somebody refers to is started from what systemd read last",
        "write service a.service 1; write target t.target 1 Wants=a.service; daemon-reload; start t.target; \
         stop a.service; write service a.service 2; start a.service; a.service has 1; \
         restart a.service; a.service has 1; daemon-reload; restart a.service; a.service has 2",
    ),
    (
        "what runs is restarted from what systemd read last",
        "write service a.service 1; daemon-reload; start a.service; write service a.service 2; \
         restart a.service; a.service has 1",
    ),
    (
        "what nobody refers to is read when it is started",
        "write service a.service 1; daemon-reload; start a.service; stop a.service; \
         write service a.service 2; start a.service; a.service has 2",
    ),
    (
        "what was not there is found once it is, referred to or not",
        "write target t.target 1 Wants=a.service; daemon-reload; start t.target; a.service is inactive not-found; \
         write service a.service 1; write service b.service 1; start a.service; start b.service; \
         a.service has 1; b.service has 1",
    ),
    (
        "what is gone from disk goes on without a definition, and can only be stopped",
        "write service a.service 1; daemon-reload; start a.service; mark a.service; remove a.service; \
         a.service is active loaded; daemon-reload; a.service is active not-found; a.service lives on; \
         no restart a.service; no start a.service; no reload a.service; a.service lives on; \
         stop a.service; a.service is inactive not-found; no stop a.service",
    ),
    (
        "what is masked goes on, and can only be stopped",
        "write service a.service 1; daemon-reload; start a.service; mark a.service; mask a.service; \
         daemon-reload; a.service is active masked; a.service lives on; no restart a.service; \
         no start a.service; stop a.service; a.service is inactive masked; no start a.service",
    ),
    (
        "a drop-in is part of the definition",
        "write service a.service 1; daemon-reload; start a.service; write service a.service.d/10-x.conf 2; \
         daemon-reload; restart a.service; a.service has 2; remove a.service.d/10-x.conf; daemon-reload; \
         restart a.service; a.service has 1",
    ),
    (
        "a socket is not started while its service runs",
        "write service a.service 1; write socket a.socket 1; daemon-reload; start a.service; mark a.service; \
         no start a.socket; stop a.service; start a.socket; start a.service; mark a.service; \
         no restart a.socket; a.socket is inactive; a.service is active; a.service lives on; \
         stop a.service; start a.socket; a.socket is active",
    ),
    (
        "a socket comes up before its service if both are wanted",
        "write service a.service 1; write socket a.socket 1; write target t.target 1 Wants=a.service Wants=a.socket; \
         daemon-reload; start t.target; a.service is active; a.socket is active",
    ),
    (
        "a socket that stops leaves its service",
        "write service a.service 1; write socket a.socket 1; daemon-reload; start a.socket; start a.service; \
         mark a.service; stop a.socket; a.socket is inactive; a.service lives on; a.service is active",
    ),
    (
        "a service that stops leaves its socket and its timer",
        "write service a.service 1; write socket a.socket 1; write timer a.timer 1; daemon-reload; start a.socket; \
         start a.timer; start a.service; stop a.service; a.socket is active; a.timer is active; \
         mark a.timer; restart a.timer; a.timer lives anew; a.service is inactive",
    ),
    (
        "a timer keeps the definition of its service in memory",
        "write service a.service 1; write timer a.timer 1; daemon-reload; start a.timer; \
         write service a.service 2; start a.service; a.service has 1",
    ),
    (
        "what does not run or cannot reload refuses to",
        "write service a.service 1; write oneshot b.service 1 RemainAfterExit=yes; daemon-reload; \
         no reload a.service; start b.service; no reload b.service",
    ),
    (
        "an instance has the definition of its template, and is listed while it runs",
        "write service a@.service 1; daemon-reload; start a@x.service; a@x.service is listed; a@x.service has 1; \
         write service a@.service 2; daemon-reload; a@x.service has 1; restart a@x.service; a@x.service has 2; \
         remove a@.service; daemon-reload; a@x.service is active not-found; a@x.service is listed; \
         stop a@x.service; a@x.service is not listed",
    ),
    (
        "a job that is over does not run, and somebody must refer to it for its life to be known",
        "write oneshot a.service 1; write oneshot b.service 1; write target t.target 1 Wants=a.service; \
         daemon-reload; start t.target; mark a.service; a.service is inactive; a.service has 1; \
         daemon-reload; a.service lives on; \
         start a.service; a.service lives anew; start b.service; b.service has 1; b.service has no life",
    ),
    (
        "a job that remains runs",
        "write oneshot a.service 1 RemainAfterExit=yes; daemon-reload; start a.service; a.service is active; \
         mark a.service; start a.service; a.service lives on; stop a.service; a.service is inactive",
    ),
    (
        "a job at work comes up, and has failed if it is stopped",
        "write oneshot a.service 1 ExecStart=/bin/sleep+infinity; daemon-reload; begin a.service; mark a.service; \
         a.service is activating; daemon-reload; a.service is activating; a.service lives on; stop a.service; \
         a.service is failed",
    ),
    (
        "what fails to start stays failed until it is forgotten or started",
        "write service a.service 1 ExecStartPre=/bin/false; daemon-reload; no start a.service; a.service is failed; \
         stop a.service; a.service is failed; reset-failed a.service; a.service is inactive; \
         no start a.service; write service a.service 2; daemon-reload; a.service is failed; \
         start a.service; a.service has 2",
    ),
    (
        "what failed and is gone is failed until it is forgotten",
        "write service a.service 1 ExecStartPre=/bin/false; daemon-reload; no start a.service; remove a.service; \
         daemon-reload; a.service is failed not-found; reset-failed a.service; a.service is inactive not-found",
    ),
    (
        "what dies is failed, and begins a new life by itself if it says so",
        "write service a.service 1; write service b.service 1 Restart=on-failure RestartSec=5; daemon-reload; \
         start a.service; kill a.service; a.service is failed; start b.service; mark b.service; \
         write service b.service 2 Restart=on-failure RestartSec=5; daemon-reload; kill b.service; \
         b.service is activating; b.service lives on; wait b.service active; b.service lives anew; b.service has 2",
    ),
    (
        "what waits to be started again can be stopped, restarted and started",
        "write service a.service 1 Restart=on-failure RestartSec=1h; daemon-reload; start a.service; kill a.service; \
         a.service is activating; stop a.service; a.service is inactive; start a.service; kill a.service; \
         mark a.service; restart a.service; a.service is active; a.service lives anew; kill a.service; \
         mark a.service; start a.service; a.service is active; a.service lives anew",
    ),
    (
        "what waits to be started again and is gone or masked has failed for good",
        "write service a.service 1 Restart=on-failure RestartSec=1h; \
         write service b.service 1 Restart=on-failure RestartSec=1h; daemon-reload; start a.service; \
         start b.service; kill a.service; kill b.service; remove a.service; mask b.service; daemon-reload; \
         wait a.service failed; wait b.service failed; stop a.service; a.service is failed not-found; \
         b.service is failed masked; reset-failed a.service b.service; b.service is inactive masked",
    ),
    (
        "a condition that does not hold is no failure, and begins no life",
        "write conditioned a.service 1; write target t.target 1 Wants=a.service; daemon-reload; start t.target; \
         start a.service; a.service is inactive; a.service has no life",
    ),
    (
        "a target starts what it wants, again if it runs already, and leaves it when it stops",
        "write service a.service 1; write target t.target 1 Wants=a.service; daemon-reload; start t.target; \
         a.service is active; mark t.target; stop a.service; start t.target; a.service is active; \
         t.target lives on; mark a.service; stop t.target; a.service lives on; a.service is active; \
         restart t.target; t.target lives anew; a.service lives on",
    ),
];

/// The text of a unit. `+` in words stands for a space.
pub(crate) fn definition(kind: &str, unit: &str, version: &str, words: &[&str]) -> String {
    let (section, base) = match kind {
        "service" => ("Service", "ExecStart=/bin/sleep infinity\nExecReload=/bin/true"),
        "conditioned" => {
            ("Unit", "ConditionPathExists=/nonexistent\n[Service]\nExecStart=/bin/sleep infinity")
        }
        "oneshot" => ("Service", "Type=oneshot\nExecStart=/bin/true"),
        "socket" => ("Socket", "ListenStream=/run/fact.sock"),
        "timer" => ("Timer", "OnBootSec=10h"),
        "target" => ("Unit", ""),
        other => panic!("`{other}` is no kind"),
    };
    // A drop-in only adds: what it says of the version comes last, and counts.
    let base = if unit.contains(".d/") { "" } else { base };
    let says = match kind {
        "service" | "oneshot" | "conditioned" => {
            format!("Environment=V={version}\nExecStartPre=/bin/sh -c 'echo \"$V\" >/run/fact-%n'\n")
        }
        _ => String::new(),
    };
    let words: String = words.iter().map(|word| word.replace('+', " ") + "\n").collect();
    format!("[{section}]\n{base}\n{says}{words}")
}

/// A systemd, real or not.
pub(crate) trait Machine {
    /// Makes a generation current in which `path` below the directory of units is this file; `None`: a link to /dev/null.
    fn write(&mut self, path: &str, text: Option<&str>);
    /// Makes a generation current that lacks `path`.
    fn remove(&mut self, path: &str);
    /// Whether systemctl succeeded: `daemon-reload`, `start a.service`, `start --no-block a.service`.
    fn systemctl(&mut self, words: &[&str]) -> bool;
    /// Kills the processes of a unit, and waits until that shows.
    fn kill(&mut self, unit: &str);
    /// Waits until a unit is as it says.
    fn wait(&mut self, unit: &str, active: &str);
    /// What systemd calls `ActiveState`, `LoadState` and `InvocationID`.
    fn shows(&mut self, unit: &str) -> [String; 3];
    /// What the definition said of its version when the unit was last started.
    fn version(&mut self, unit: &str) -> String;
    /// The instances of a template that are listed.
    fn instances(&mut self, template: &str) -> Vec<String>;
}

/// Goes through a script.
pub(crate) fn check(machine: &mut dyn Machine, (what, script): &Fact) {
    let mut marks: Vec<(String, String)> = Vec::new();
    for step in script.split(';').map(str::trim) {
        let words: Vec<&str> = step.split_whitespace().collect();
        let holds = match words.as_slice() {
            ["write", kind, path, version, more @ ..] => {
                machine.write(path, Some(&definition(kind, path, version, more)));
                true
            }
            ["remove", path] => {
                machine.remove(path);
                true
            }
            ["mask", path] => {
                machine.write(path, None);
                true
            }
            ["begin", unit] => machine.systemctl(&["start", "--no-block", unit]),
            ["kill", unit] => {
                machine.kill(unit);
                true
            }
            ["wait", unit, active] => {
                machine.wait(unit, active);
                true
            }
            ["mark", unit] => {
                marks.push(((*unit).to_owned(), machine.shows(unit)[2].clone()));
                true
            }
            [unit, "lives", how] => {
                let marked = marks.iter().rfind(|(marked, _)| marked == unit).expect("it was marked");
                (marked.1 == machine.shows(unit)[2]) == (*how == "on")
            }
            [unit, "has", "no", "life"] => machine.shows(unit)[2].is_empty(),
            [unit, "has", version] => machine.version(unit) == *version,
            [unit, "is", "listed"] => machine.instances(&template(unit)).iter().any(|one| one == unit),
            [unit, "is", "not", "listed"] => {
                !machine.instances(&template(unit)).iter().any(|one| one == unit)
            }
            [unit, "is", active] => machine.shows(unit)[0] == *active,
            [unit, "is", active, load] => machine.shows(unit)[..2] == [*active, *load],
            ["no", words @ ..] => !machine.systemctl(words),
            words => machine.systemctl(words),
        };
        assert!(
            holds,
            "{what}: not so: `{step}`; {:?}",
            words.iter().find(|word| word.contains('.')).map(|unit| machine.shows(unit))
        );
    }
}

fn template(instance: &str) -> String {
    let (prefix, rest) = instance.split_once('@').expect("it is an instance");
    format!("{prefix}@.{}", rest.rsplit_once('.').expect("it has a type").1)
}
