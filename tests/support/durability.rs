//! A trace of system calls → what would be lost, or found half there, after a power cut.
//!
//! The trace is that of one process, by `strace -y -s 0`. It is played on a small model of what the file system has in its cache only:
//! data that were written and not synced, and names that were made, moved or removed in directories that were not synced since. Three
//! rules, and what breaks one is told:
//!
//! 1. What a rename or a link publishes is synced before: the file, or all files and names of the tree.
//! 2. What others read is never written in place.
//! 3. At each step that somebody may act on (the start of a program, the commit, the end of the run) nothing is left unsynced.
//!
//! Free of all that are the places that nobody reads: see [`is_private`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a trace came to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What breaks a rule.
    pub(crate) violations: Vec<String>,
    /// How many names were put where others find them.
    pub(crate) published: usize,
    /// How often something was synced.
    pub(crate) syncs: usize,
    /// How many steps were judged.
    pub(crate) steps: usize,
}

/// One system call that went well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
}

/// Whether a name was there when it was last durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Perhaps,
}

#[derive(Default)]
struct Cache {
    /// Files with data that are not synced.
    data: BTreeSet<PathBuf>,
    /// Names that are not as they were when their directory was last synced.
    names: BTreeMap<PathBuf, Before>,
    verdict: Verdict,
}

/// Judges a trace.
pub(crate) fn judge(trace: &str) -> Verdict {
    let mut cache = Cache::default();
    for call in trace.lines().filter_map(parse) {
        cache.play(&call);
    }
    cache.step("the run ended");
    cache.verdict
}

/// Nobody reads it: the next run removes it, or it holds nothing.
pub(crate) fn is_private(path: &Path) -> bool {
    let path = path.to_string_lossy();
    let inside = path.split_once("/var/lib/rick/").map_or("", |(_, inside)| inside);
    let first = inside.split('/').next().unwrap_or_default();
    matches!(first, "incoming" | "lock") || path.ends_with(".tmp")
}

/// It outlives the boot, and this is about it.
fn lasts(path: &Path) -> bool {
    path.is_absolute()
        && !["/dev", "/proc", "/sys", "/run", "/tmp"].iter().any(|short| path.starts_with(short))
}

impl Cache {
    fn play(&mut self, call: &Call) {
        let at = |index: usize| call.arguments.get(index).map_or("", String::as_str);
        match call.name.as_str() {
            "open" => self.open(&path("", at(0)), at(1)),
            "creat" => self.open(&path("", at(0)), "O_CREAT|O_TRUNC"),
            "openat" | "openat2" => self.open(&path(at(0), at(1)), at(2)),
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "ftruncate" | "fallocate"
            | "sendfile" => {
                self.write(at(0));
            }
            "copy_file_range" | "splice" => self.write(at(2)),
            "fsync" | "fdatasync" => self.sync(at(0)),
            "syncfs" | "sync" => self.sync_all(),
            "mkdir" | "mknod" => self.make(path("", at(0))),
            "mkdirat" | "mknodat" => self.make(path(at(0), at(1))),
            "symlink" => self.make(path("", at(1))),
            "symlinkat" => self.make(path(at(1), at(2))),
            "link" => self.link(&path("", at(0)), path("", at(1))),
            "linkat" => self.link(&path(at(0), at(1)), path(at(2), at(3))),
            "unlink" | "rmdir" => self.remove(&path("", at(0))),
            "unlinkat" => self.remove(&path(at(0), at(1))),
            "rename" => self.rename(&path("", at(0)), &path("", at(1))),
            "renameat" | "renameat2" => self.rename(&path(at(0), at(1)), &path(at(2), at(3))),
            _ if starts_a_program(call) => self.step("a program was started"),
            _ => {}
        }
    }

    fn open(&mut self, path: &Path, flags: &str) {
        let has = |flag: &str| flags.split('|').any(|one| one == flag);
        if !lasts(path) {
            return;
        }
        if has("O_CREAT") {
            let before = if has("O_EXCL") { Before::Absent } else { Before::Perhaps };
            self.names.entry(path.to_owned()).or_insert(before);
        }
        if has("O_TRUNC") || has("O_CREAT") {
            self.change(path);
        }
    }

    fn write(&mut self, descriptor: &str) {
        if let Some(path) = described(descriptor).filter(|path| lasts(path)) {
            self.change(&path);
        }
    }

    fn change(&mut self, path: &Path) {
        if !is_private(path) && self.data.insert(path.to_owned()) {
            self.complain(format!("{} is written in place", path.display()));
        }
        self.data.insert(path.to_owned());
    }

    fn sync(&mut self, descriptor: &str) {
        self.verdict.syncs += 1;
        if let Some(path) = described(descriptor) {
            self.data.remove(&path);
            self.names.retain(|name, _| name.parent() != Some(&path));
        }
    }

    fn sync_all(&mut self) {
        self.verdict.syncs += 1;
        self.data.clear();
        self.names.clear();
    }

    fn make(&mut self, path: PathBuf) {
        if lasts(&path) {
            self.verdict.published += usize::from(!is_private(&path));
            self.names.entry(path).or_insert(Before::Absent);
        }
    }

    fn link(&mut self, from: &Path, to: PathBuf) {
        self.expect_synced(from, &to);
        self.make(to);
    }

    fn remove(&mut self, path: &Path) {
        self.forget(path);
        if lasts(path) && self.names.insert(path.to_owned(), Before::Perhaps) == Some(Before::Absent) {
            // It came and went between two syncs.
            self.names.remove(path);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if to.ends_with("rick/current") {
            self.step("the commit came");
        }
        self.expect_synced(from, to);
        self.verdict.published += usize::from(!is_private(to));
        let moved = |path: &Path| path.strip_prefix(from).ok().map(|rest| below(to, rest));
        let data: Vec<PathBuf> = self.data.iter().filter_map(|path| moved(path)).collect();
        let names: Vec<(PathBuf, Before)> =
            self.names.iter().filter_map(|(path, before)| Some((moved(path)?, *before))).collect();
        let there_before = self.names.get(to).copied();
        self.forget(to);
        self.remove(from);
        self.data.extend(data);
        self.names.extend(names.into_iter().filter(|(path, _)| path != to));
        if lasts(to) {
            self.names.insert(to.to_owned(), there_before.unwrap_or(Before::Perhaps));
        }
    }

    /// What is below a name goes with it.
    fn forget(&mut self, path: &Path) {
        self.data.retain(|other| !other.starts_with(path));
        self.names.retain(|other, _| other == path || !other.starts_with(path));
    }

    /// Rule 1.
    fn expect_synced(&mut self, from: &Path, to: &Path) {
        if is_private(to) || !lasts(to) {
            return;
        }
        let data = self.data.iter().filter(|path| path.starts_with(from));
        let names = self.names.keys().filter(|path| path.starts_with(from) && *path != from);
        let mut unsynced: Vec<String> = data.map(|path| format!("the data of {}", path.display())).collect();
        unsynced.extend(names.map(|path| format!("the name {}", path.display())));
        for what in unsynced {
            self.complain(format!("{} is put in place, and {what} was not synced", to.display()));
        }
    }

    /// Rule 3.
    fn step(&mut self, when: &str) {
        self.verdict.steps += 1;
        let data = self.data.iter().filter(|path| !is_private(path));
        let names = self.names.keys().filter(|path| !is_private(path));
        let mut unsynced: Vec<String> = data.map(|path| format!("the data of {}", path.display())).collect();
        unsynced.extend(names.map(|path| format!("the name {}", path.display())));
        for what in unsynced {
            self.complain(format!("{what} was not synced when {when}"));
        }
    }

    fn complain(&mut self, what: String) {
        if !self.verdict.violations.contains(&what) {
            self.verdict.violations.push(what);
        }
    }
}

/// A new process, and not a thread of this one.
pub(crate) fn starts_a_program(call: &Call) -> bool {
    let thread = call.arguments.iter().any(|argument| argument.contains("CLONE_THREAD"));
    matches!(call.name.as_str(), "fork" | "vfork" | "clone" | "clone3") && !thread
}

/// `to` itself if nothing is below it: a path must not end in a slash.
fn below(to: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) }
}

/// The path that an argument names: `"…"`, in the directory `N</…>` if it is relative.
pub(crate) fn path(directory: &str, argument: &str) -> PathBuf {
    let text = argument.trim_matches('"');
    described(directory).unwrap_or_else(|| PathBuf::from("/")).join(text)
}

/// The path of the descriptor `N</…>`; none if it is no file, or one without a name.
fn described(descriptor: &str) -> Option<PathBuf> {
    let (_, path) = descriptor.split_once('<')?;
    path.strip_suffix('>').filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// A line of a trace: `name(arguments) = result`. None if it is no call, or one that failed or never came back.
pub(crate) fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let went_well = result.starts_with(|first: char| first.is_ascii_digit());
    went_well.then(|| Call { name: name.to_owned(), arguments: split(arguments) })
}

/// The arguments of a call: commas inside quotes and brackets part nothing.
fn split(arguments: &str) -> Vec<String> {
    let (mut all, mut one, mut depth) = (Vec::new(), String::new(), 0_u32);
    let (mut quoted, mut escaped) = (false, false);
    for letter in arguments.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' | '<' if !quoted => depth += 1,
            '}' | ']' | '>' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                all.push(std::mem::take(&mut one).trim().to_owned());
                continue;
            }
            _ => {}
        }
        one.push(letter);
    }
    if !one.trim().is_empty() {
        all.push(one.trim().to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(trace: &str) -> String {
        judge(trace).violations.join("; ")
    }

    /// What `durable::replace_file` does, and the commit.
    const GOOD: &str = r#"
openat(AT_FDCWD</>, "/var/lib/rick/a.json.tmp", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0644) = 3</var/lib/rick/a.json.tmp>
write(3</var/lib/rick/a.json.tmp>, ""..., 12) = 12
fsync(3</var/lib/rick/a.json.tmp>)      = 0
rename("/var/lib/rick/a.json.tmp", "/var/lib/rick/a.json") = 0
openat(AT_FDCWD</>, "/var/lib/rick", O_RDONLY|O_CLOEXEC) = 4</var/lib/rick>
fsync(4</var/lib/rick>)                 = 0
clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88) = 77
symlink("gens/2", "/var/lib/rick/current.tmp") = 0
rename("/var/lib/rick/current.tmp", "/var/lib/rick/current") = 0
fsync(4</var/lib/rick>)                 = 0
"#;

    #[test]
    fn what_is_synced_in_order_is_fine() {
        let verdict = judge(GOOD);
        assert_eq!(verdict.violations, Vec::<String>::new());
        assert_eq!((verdict.published, verdict.syncs, verdict.steps), (2, 3, 3));
    }

    #[test]
    fn each_sync_that_is_left_out_is_missed() {
        let without = |line: &str, nth: usize| {
            let at = GOOD.match_indices(line).nth(nth).unwrap().0;
            [&GOOD[..at], &GOOD[at + line.len()..]].concat()
        };
        let file = without("fsync(3</var/lib/rick/a.json.tmp>)      = 0\n", 0);
        assert!(complaints(&file).starts_with(
            "/var/lib/rick/a.json is put in place, and the data of /var/lib/rick/a.json.tmp was not synced"
        ));
        let directory = "fsync(4</var/lib/rick>)                 = 0\n";
        assert_eq!(
            complaints(&without(directory, 0)),
            "the name /var/lib/rick/a.json was not synced when a program was started; \
             the name /var/lib/rick/a.json was not synced when the commit came"
        );
        assert_eq!(
            complaints(&without(directory, 1)),
            "the name /var/lib/rick/current was not synced when the run ended"
        );
    }

    #[test]
    fn a_sync_that_comes_too_early_is_none() {
        let swapped = GOOD.replace(
            "write(3</var/lib/rick/a.json.tmp>, \"\"..., 12) = 12\nfsync(3</var/lib/rick/a.json.tmp>)      = 0\n",
            "fsync(3</var/lib/rick/a.json.tmp>)      = 0\nwrite(3</var/lib/rick/a.json.tmp>, \"\"..., 12) = 12\n",
        );
        assert_ne!(swapped, GOOD);
        assert!(complaints(&swapped).contains("the data of /var/lib/rick/a.json.tmp was not synced"));
    }

    const TREE: &str = r#"
mkdir("/var/lib/rick/incoming", 0700) = 0
mkdir("/var/lib/rick/incoming/generation", 0755) = 0
openat(5</var/lib/rick/incoming/generation>, "unit", O_WRONLY|O_CREAT|O_EXCL, 0644) = 3</var/lib/rick/incoming/generation/unit>
write(3</var/lib/rick/incoming/generation/unit>, ""..., 12) = 12
symlink("x", "/var/lib/rick/incoming/generation/link") = 0
syncfs(3</var/lib/rick/incoming>) = 0
rename("/var/lib/rick/incoming/generation", "/var/lib/rick/gens/1") = 0
fsync(3</var/lib/rick/gens>) = 0
unlinkat(AT_FDCWD</>, "/var/lib/rick/incoming", AT_REMOVEDIR) = 0
"#;

    #[test]
    fn a_tree_is_synced_whole_before_it_is_moved() {
        assert_eq!(complaints(TREE), "");
        let unsynced = complaints(&TREE.replace("syncfs(3</var/lib/rick/incoming>) = 0\n", ""));
        for what in [
            "/var/lib/rick/gens/1 is put in place, and the data of /var/lib/rick/incoming/generation/unit was not synced",
            "/var/lib/rick/gens/1 is put in place, and the name /var/lib/rick/incoming/generation/link was not synced",
            "the data of /var/lib/rick/gens/1/unit was not synced when the run ended",
        ] {
            assert!(unsynced.contains(what), "{unsynced}");
        }
        let unnamed = complaints(&TREE.replace("fsync(3</var/lib/rick/gens>) = 0\n", ""));
        assert_eq!(unnamed, "the name /var/lib/rick/gens/1 was not synced when the run ended");
    }

    #[test]
    fn a_commit_to_what_is_not_durable_is_refused() {
        let early = TREE.replace(
            "fsync(3</var/lib/rick/gens>) = 0\n",
            "rename(\"/var/lib/rick/current.tmp\", \"/var/lib/rick/current\") = 0\nsyncfs(3</var>) = 0\n",
        );
        assert_eq!(complaints(&early), "the name /var/lib/rick/gens/1 was not synced when the commit came");
    }

    #[test]
    fn nothing_that_others_read_is_written_in_place() {
        for line in [
            r#"openat(AT_FDCWD</>, "/etc/passwd", O_WRONLY|O_TRUNC) = 3</etc/passwd>"#,
            r#"write(3</etc/passwd>, ""..., 1) = 1"#,
        ] {
            assert!(complaints(line).contains("/etc/passwd is written in place"), "{line}");
        }
        for line in [
            r#"write(1<pipe:[77]>, ""..., 1) = 1"#,
            r#"write(1</dev/null>, ""..., 1) = 1"#,
            r#"openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>"#,
            r#"openat(AT_FDCWD</>, "/etc/passwd", O_WRONLY|O_TRUNC) = -1 EACCES (Permission denied)"#,
            r#"openat(AT_FDCWD</>, "/var/lib/rick/lock", O_WRONLY|O_CREAT, 0600) = 3</var/lib/rick/lock>"#,
        ] {
            assert_eq!(complaints(line), "", "{line}");
        }
    }

    #[test]
    fn a_removal_and_a_new_directory_are_names_too() {
        assert_eq!(
            complaints("unlink(\"/var/lib/rick/journal.json\") = 0\n"),
            "the name /var/lib/rick/journal.json was not synced when the run ended"
        );
        let made = "mkdir(\"/var/lib/rick\", 0755) = 0\n";
        assert_eq!(complaints(made), "the name /var/lib/rick was not synced when the run ended");
        assert_eq!(complaints(&[made, "rmdir(\"/var/lib/rick\") = 0\n"].concat()), "");
        let inside = [made, "fsync(3</var/lib/rick>) = 0\n"].concat();
        assert_eq!(complaints(&inside), "the name /var/lib/rick was not synced when the run ended");
    }

    #[test]
    fn threads_are_no_programs() {
        let parsed = |line: &str| parse(line).unwrap();
        assert!(!starts_a_program(&parsed("clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 77")));
        assert!(starts_a_program(&parsed("vfork() = 77")));
        assert_eq!(parse("+++ exited with 0 +++"), None);
        assert_eq!(parse("exit_group(0)                           = ?"), None);
        assert_eq!(
            parsed(r#"renameat2(AT_FDCWD</a,b>, "x, \"y", 3</z>, "w", 0) = 0"#).arguments,
            [r"AT_FDCWD</a,b>", r#""x, \"y""#, "3</z>", r#""w""#, "0"]
        );
    }
}
