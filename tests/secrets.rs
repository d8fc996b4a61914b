//! `rickbuild secrets` with the real age and keys that ssh-keygen and age-keygen made: who is declared can read, nobody else, and what
//! is in clear is never on a disk, in an argument or in an environment.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::source::{self, Tree};
use crate::support::{require_programs, require_root};

const WRONG: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const REFUSED: Option<i32> = Some(3);
/// The value that is hunted for.
const KNOWN: &str = "correct-horse-battery-staple";

/// A source tree whose hosts need secrets, and a home with keys.
struct Lab {
    tree: Tree,
    home: TempDir,
    /// Where values are in clear while somebody edits them.
    memory: TempDir,
}

/// What an environment says of its hosts and operators.
struct Declared<'a> {
    /// Host → the secrets that it needs.
    hosts: &'a [(&'a str, &'a [&'a str])],
    /// Names of keys.
    operators: &'a [&'a str],
}

/// Two hosts, one secret that both need; one operator with a key of SSH, one with a key of age.
const USUAL: Declared<'static> =
    Declared { hosts: &[("box", &["db", "token"]), ("other", &["db"])], operators: &["alice", "bob"] };

impl Lab {
    fn new(declared: &Declared<'_>) -> Self {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let lab = Self { tree: source::empty(), home: tempfile::tempdir().unwrap(), memory };
        for name in ["box", "other", "third", "alice", "mallory"] {
            lab.make_ssh_key(name);
        }
        for name in ["bob", "carol"] {
            let made = lab.run("age-keygen", &["-o", &lab.private(name)]);
            assert!(made.status.success(), "{made:?}");
        }
        let module = "def _build(ctx):\n    return [secret(name) for name in ctx.options.names]\n\nneeds = module(doc = \"Needs secrets.\", build = _build, options = {\"names\": option(list[str], doc = \"Them.\")})\n";
        lab.tree.write("modules/needs/needs.star", module);
        lab.declare(declared);
        lab
    }

    fn declare(&self, declared: &Declared<'_>) {
        let host = |(name, secrets): &(&str, &[&str])| {
            let key = self.public(name);
            format!(
                "host(name = \"{name}\", domain = \"example.net\", ssh_key = \"{key}\", services = [needs(names = {secrets:?})])"
            )
        };
        let hosts: Vec<String> = declared.hosts.iter().map(host).collect();
        let operators: Vec<String> = declared.operators.iter().map(|name| self.public(name)).collect();
        let text = format!(
            "load(\"//modules/needs\", \"needs\")\nenvironment(name = \"case\", operators = {operators:?}, hosts = [{}])\n",
            hosts.join(", ")
        );
        self.tree.write("environments/case.star", &text);
    }

    fn make_ssh_key(&self, name: &str) {
        let path = self.private(name);
        let made = self.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path]);
        assert!(made.status.success(), "{made:?}");
    }

    fn private(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn public(&self, name: &str) -> String {
        let of_ssh = fs::read_to_string(self.private(name) + ".pub");
        let key = of_ssh.unwrap_or_else(|_| {
            String::from_utf8(self.run("age-keygen", &["-y", &self.private(name)]).stdout).unwrap()
        });
        key.trim().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path());
        command.env("XDG_CACHE_HOME", self.home.path().join("cache")).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.memory.path());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().unwrap()
    }

    fn secrets(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_rickbuild"));
        command.arg("--root").arg(self.tree.path()).arg("secrets").args(arguments);
        command
    }

    fn set(&self, name: &str, value: &[u8]) -> Said {
        fed(self.secrets(&["set", "case", name]), value)
    }

    #[track_caller]
    fn well(&self, arguments: &[&str]) -> Said {
        let said = said(&mut self.secrets(arguments));
        assert_eq!(said.code, Some(0), "{}", said.text);
        said
    }

    /// `edit` with a script for an editor, which gets the file as `$1`.
    fn edit(&self, name: &str, script: &str) -> Command {
        let editor = self.home.path().join("editor");
        fs::write(&editor, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
        fs::set_permissions(&editor, Permissions::from_mode(0o755)).unwrap();
        let mut command = self.secrets(&["edit", "case", name, "--identity", &self.private("alice")]);
        command.env("EDITOR", editor);
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tree.path().join(format!("secrets/case/{name}.age"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    /// What age itself decrypts with somebody's key.
    fn reads(&self, who: &str, name: &str) -> Option<Vec<u8>> {
        let file = self.file(name);
        let output = self.run("age", &["-d", "-i", &self.private(who), file.to_str().unwrap()]);
        output.status.success().then_some(output.stdout)
    }

    #[track_caller]
    fn readers(&self, name: &str, expected: &[&str]) {
        let all = ["box", "other", "third", "alice", "bob", "carol", "mallory"];
        let readers: Vec<&str> = all.into_iter().filter(|who| self.reads(who, name).is_some()).collect();
        assert_eq!(readers, expected, "{name}");
    }

    fn check(&self) -> (Option<i32>, String) {
        let output = self.secrets(&["check", "case"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// The files below the tree and the home that hold a text.
    fn hunt(&self, text: &str) -> Vec<String> {
        let mut grep = Command::new("grep");
        // No argument is what another test hunts for among all processes.
        grep.args(["--recursive", "--files-with-matches", "--text", "--fixed-strings", "--file=-"]);
        let grep = grep.args([self.tree.path(), self.home.path()]).stdin(Stdio::piped());
        let mut child = grep.stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Folders that hold values in clear.
    fn scratches(&self) -> usize {
        fs::read_dir(self.memory.path()).unwrap().count()
    }

    /// Runs a command on a terminal of its own, with somebody who types an answer once they are asked the question.
    fn at_a_terminal(&self, call: &Command, answers: &[(&str, &str)]) -> Said {
        let words = std::iter::once(call.get_program()).chain(call.get_args());
        let line = words.map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ");
        let screen = self.home.path().join("screen");
        let _ = fs::remove_file(&screen);
        let mut command = self.command("script");
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["--quiet", "--return", "--flush", "--command", &line]).arg(&screen);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut keys = child.stdin.take().unwrap();
        for (question, answer) in answers {
            soon(question, || {
                fs::read(&screen).is_ok_and(|shown| String::from_utf8_lossy(&shown).contains(question))
            });
            keys.write_all(answer.as_bytes()).unwrap();
        }
        // It ends by itself, and would have them thrown away if nobody was there to type.
        soon("the end", || child.try_wait().unwrap().is_some());
        drop(keys);
        let output = child.wait_with_output().unwrap();
        Said { code: output.status.code(), text: String::from_utf8(output.stdout).unwrap() }
    }
}

struct Said {
    code: Option<i32>,
    text: String,
}

impl Said {
    #[track_caller]
    fn has(&self, code: Option<i32>, text: &str) {
        assert_eq!(self.code, code, "{}", self.text);
        assert!(self.text.contains(text), "`{text}` is not in:\n{}", self.text);
    }
}

fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    Said { code: status.code(), text: String::from_utf8(stderr).unwrap() }
}

fn fed(mut command: Command, input: &[u8]) -> Said {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may refuse before it reads.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    Said { code: status.code(), text: String::from_utf8(stderr).unwrap() }
}

#[track_caller]
fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_set_can_be_read_by_the_hosts_that_need_it_and_by_operators_and_nobody_else() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    let value = b"first\nsecond\n\0\xff last";
    lab.set("db", value).has(Some(0), "secrets/case/db.age  new, for box, other, alice, age1");
    lab.readers("db", &["box", "other", "alice", "bob"]);
    for who in ["box", "other", "alice", "bob"] {
        assert_eq!(lab.reads(who, "db").unwrap(), value, "{who}");
    }
    lab.set("token", b"one line\n").has(Some(0), "the value ends with a line break");
    lab.readers("token", &["box", "alice", "bob"]);
    assert_eq!(lab.reads("box", "token").unwrap(), b"one line\n");
    let text = String::from_utf8(lab.bytes("db")).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"), "{text}");
    assert_eq!(fs::metadata(lab.file("db")).unwrap().mode() & 0o777, 0o644);
    // The same value again is another file: nothing tells that it is the same.
    let before = lab.bytes("db");
    lab.set("db", value).has(Some(0), "replaced");
    assert_ne!(lab.bytes("db"), before);
    // Nothing is left beside.
    assert_eq!(fs::read_dir(lab.tree.path().join("secrets/case")).unwrap().count(), 2);
    let (code, table) = lab.check();
    assert_eq!(code, Some(0), "{table}");
    let built = lab.tree.rickbuild(&["check", "case"]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[test]
fn what_cannot_be_meant_is_refused_and_changes_nothing() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    lab.set("db", b"good").has(Some(0), "");
    let before = lab.bytes("db");
    lab.set("db", b"").has(REFUSED, "is empty");
    lab.set("db", &vec![b'x'; 2 << 20]).has(REFUSED, "too large");
    lab.set("tokn", b"x").has(USAGE, "did you mean `token`?");
    lab.set("Db", b"x").has(USAGE, "is no name of a secret");
    lab.set("../db", b"x").has(USAGE, "is no name of a secret");
    assert_eq!(lab.bytes("db"), before);
    // For what a module is going to need.
    fed(lab.secrets(&["set", "case", "later", "--new"]), b"x").has(Some(0), "new, for alice, age1");
    lab.readers("later", &["alice", "bob"]);
    // An environment with mistakes says nothing that could be relied on.
    lab.tree.edit("environments/case.star", "[\"ssh-ed25519", "[\"ssh-dss");
    lab.set("db", b"x").has(WRONG, "is none that secrets can be encrypted to");
    assert_eq!(lab.bytes("db"), before);
}

#[test]
fn a_folder_that_leads_elsewhere_is_not_written_to() {
    require_programs!("age");
    let (lab, outside) = (Lab::new(&USUAL), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), lab.tree.path().join("secrets")).unwrap();
    lab.set("db", b"x").has(REFUSED, "could lead out of the source tree");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn without_age_the_package_is_named_and_rage_does_as_well() {
    require_programs!("age");
    let (lab, programs) = (Lab::new(&USUAL), tempfile::tempdir().unwrap());
    let set = || {
        let mut command = lab.secrets(&["set", "case", "db"]);
        command.env("PATH", programs.path());
        command
    };
    fed(set(), b"x").has(REFUSED, "install the package `age`");
    assert!(!lab.file("db").exists());
    // Under its name: the real one is not in Debian 12.
    std::os::unix::fs::symlink("/usr/bin/age", programs.path().join("rage")).unwrap();
    fed(set(), b"x").has(Some(0), "new");
    assert_eq!(lab.reads("box", "db").unwrap(), b"x");
}

#[test]
fn the_real_rage_reads_and_writes_the_same_files() {
    require_programs!("age");
    // No package of Debian 12, and too long to build here each time: with it in PATH, this runs.
    let Some(rage) = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("rage"))
        .find(|path| path.is_file())
    else {
        eprintln!("not run: there is no rage here");
        return;
    };
    let (lab, programs) = (Lab::new(&USUAL), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(rage, programs.path().join("rage")).unwrap();
    let by_rage = |arguments: &[&str]| {
        let mut command = lab.secrets(arguments);
        command.env("PATH", programs.path());
        command
    };
    fed(by_rage(&["set", "case", "db"]), b"by rage").has(Some(0), "new");
    lab.readers("db", &["box", "other", "alice", "bob"]);
    lab.set("token", b"by age").has(Some(0), "new");
    assert_eq!(lab.check().0, Some(0));
    lab.declare(&Declared { operators: &["bob"], ..USUAL });
    let identity = lab.private("bob");
    said(&mut by_rage(&["rekey", "case", "-i", &identity])).has(Some(0), "token.age  - `ssh-ed25519 ");
    assert_eq!(lab.reads("box", "token").unwrap(), b"by age");
    assert_eq!(lab.reads("box", "db").unwrap(), b"by rage");
    assert_eq!(lab.check().0, Some(0));
}

#[test]
fn a_value_that_is_typed_is_asked_for_twice_and_not_shown() {
    require_programs!("age", "script");
    let lab = Lab::new(&USUAL);
    let typed = |answers: &[(&str, &str)]| lab.at_a_terminal(&lab.secrets(&["set", "case", "db"]), answers);
    let (first, again) = ("Value of db: ", "The same again: ");
    let known = format!("{KNOWN}\r");
    let said = typed(&[(first, &known), (again, &known)]);
    said.has(Some(0), first);
    assert!(!said.text.contains("horse"), "{}", said.text);
    assert_eq!(lab.reads("box", "db").unwrap(), KNOWN.as_bytes());
    let before = lab.bytes("db");
    typed(&[(first, "one\r"), (again, "another\r")]).has(REFUSED, "not the same");
    // Of a value with several lines, the first one is not the value.
    typed(&[(first, "one\rtwo\r")]).has(REFUSED, "not the same");
    typed(&[(first, "one\rone\rthree\r")]).has(REFUSED, "more than one line");
    // Ctrl-C.
    typed(&[(first, "on\u{3}")]).has(REFUSED, "nothing is changed");
    assert_eq!(lab.bytes("db"), before);
}

#[test]
fn random_values_have_the_shape_that_is_asked_for_and_replace_nothing_unasked() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    said(&mut lab.secrets(&["generate", "case"])).has(USAGE, "");
    lab.well(&["generate", "case", "token", "--shape", "digits", "--length", "6"]);
    let pin = String::from_utf8(lab.reads("box", "token").unwrap()).unwrap();
    assert!(pin.len() == 6 && pin.bytes().all(|byte| byte.is_ascii_digit()), "{pin}");
    // Not even the one that is not there.
    let refused = said(&mut lab.secrets(&["generate", "case", "db", "token"]));
    refused.has(REFUSED, "`secrets/case/token.age` is there already");
    assert!(!lab.file("db").exists());
    lab.well(&["generate", "case", "--missing"]).has(Some(0), "db.age  new");
    let value = String::from_utf8(lab.reads("other", "db").unwrap()).unwrap();
    assert!(
        value.len() == 43 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    lab.well(&["generate", "case", "--missing"]).has(Some(0), "nothing is missing");
    assert_eq!(lab.reads("box", "token").unwrap(), pin.as_bytes());
    lab.well(&["generate", "case", "db", "--force"]).has(Some(0), "replaced");
    assert_ne!(lab.reads("other", "db").unwrap(), value.as_bytes());
}

#[test]
fn an_editor_finds_the_value_in_memory_and_leaves_nothing_there() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    lab.set("db", b"before").has(Some(0), "");
    let seen = lab.private("seen");
    let script = format!(
        "folder=$(dirname \"$1\")\n{{ stat -f -c %T \"$folder\"; stat -c '%a %u' \"$folder\" \"$1\"; cat \"$1\"; }} > {seen}\n\
         echo swap > \"$folder/.db.swp\"; cp \"$1\" \"$1~\"; mkdir \"$folder/undo\"; echo x > \"$folder/undo/x\"\n\
         echo after > \"$folder/new\"; mv \"$folder/new\" \"$1\"; echo \"$folder\" >> {seen}.folder"
    );
    said(lab.edit("db", &script).env_remove("XDG_RUNTIME_DIR")).has(Some(0), "db.age  replaced");
    let user = rustix::process::getuid().as_raw();
    assert_eq!(fs::read_to_string(&seen).unwrap(), format!("tmpfs\n700 {user}\n600 {user}\nbefore"));
    // The editor's line break is not the value's.
    assert_eq!(lab.reads("other", "db").unwrap(), b"after");
    // One that is there stays.
    lab.set("db", b"a\nb\n").has(Some(0), "");
    said(&mut lab.edit("db", "echo c >> \"$1\"")).has(Some(0), "replaced");
    assert_eq!(lab.reads("other", "db").unwrap(), b"a\nb\nc\n");
    let before = lab.bytes("db");
    said(&mut lab.edit("db", "touch \"$1\"")).has(Some(0), "as it was");
    assert_eq!(lab.bytes("db"), before);
    // One that was not there yet.
    said(&mut lab.edit("token", "test ! -s \"$1\"; echo new > \"$1\"")).has(Some(0), "token.age  new");
    assert_eq!(lab.reads("box", "token").unwrap(), b"new");
    for folder in fs::read_to_string(seen + ".folder").unwrap().lines() {
        assert!(!Path::new(folder).exists(), "{folder}");
    }
}

#[test]
fn an_edit_that_does_not_end_well_changes_nothing_and_leaves_nothing() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    lab.set("db", KNOWN.as_bytes()).has(Some(0), "");
    let before = lab.bytes("db");
    let folder = lab.private("folder");
    let tell = format!("dirname \"$1\" > {folder}.new; mv {folder}.new {folder}; echo x > \"$1\";");
    let gone = || {
        let path = fs::read_to_string(&folder).unwrap();
        soon("the folder goes", || !Path::new(path.trim()).exists());
        fs::remove_file(&folder).unwrap();
    };
    said(&mut lab.edit("db", &format!("{tell} exit 3"))).has(REFUSED, "ended with exit status: 3");
    gone();
    said(&mut lab.edit("db", &format!("{tell} rm \"$1\""))).has(Some(70), "has left no file");
    gone();
    said(&mut lab.edit("db", &format!("{tell} : > \"$1\""))).has(REFUSED, "is empty");
    gone();
    // Whatever ends the program, while the editor is open.
    for signal in [Signal::INT, Signal::HUP, Signal::TERM, Signal::KILL] {
        let mut child: Child =
            lab.edit("db", &format!("{tell} exec sleep 5")).stderr(Stdio::null()).spawn().unwrap();
        soon("the editor is open", || Path::new(&folder).exists());
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        gone();
    }
    // A private key that is not an operator's, and none.
    let mut wrong = lab.secrets(&["edit", "case", "db", "--identity", &lab.private("mallory")]);
    said(wrong.env("EDITOR", "false")).has(REFUSED, "no private key of these decrypts it");
    said(lab.secrets(&["edit", "case", "db"]).env("EDITOR", "false")).has(REFUSED, "there is no private key");
    assert_eq!(lab.scratches(), 0);
    assert_eq!(lab.bytes("db"), before);
}

#[test]
fn vim_keeps_nothing_of_a_value_at_home() {
    require_programs!("age", "vim");
    let lab = Lab::new(&USUAL);
    lab.set("db", KNOWN.as_bytes()).has(Some(0), "");
    let keep = lab.home.path().join("kept");
    fs::create_dir(&keep).unwrap();
    let keep = keep.to_str().unwrap();
    let vimrc = format!(
        "set undofile undodir={keep} backup backupdir={keep} directory={keep} viminfo='9,<99,s99,n{keep}/viminfo\n"
    );
    fs::write(lab.home.path().join(".vimrc"), vimrc).unwrap();
    // Deletes the line, so that it is in a register, writes another, and leaves.
    let vim = "vim -es -u ~/.vimrc -c 'normal ddiother' -c wq";
    let edit = |editor: &str| {
        let mut command = lab.secrets(&["edit", "case", "db", "--identity", &lab.private("alice")]);
        said(command.env("EDITOR", editor)).has(Some(0), "replaced");
        assert_eq!(lab.reads("box", "db").unwrap(), b"other");
    };
    edit(vim);
    assert_eq!(lab.hunt(KNOWN), [""; 0]);
    // It would have.
    lab.set("db", KNOWN.as_bytes()).has(Some(0), "");
    edit(&format!("exec {vim} \"$@\" #"));
    assert_ne!(lab.hunt(KNOWN), [""; 0]);
}

#[test]
fn files_are_encrypted_anew_after_a_host_has_joined_and_an_operator_has_left() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    lab.set("db", b"shared").has(Some(0), "");
    lab.set("token", b"own").has(Some(0), "");
    let rekey = |more: &[&str]| {
        said(&mut lab.secrets(&[&["rekey", "case", "-i", &lab.private("alice")], more].concat()))
    };
    let before = (lab.bytes("db"), lab.bytes("token"));
    rekey(&[]).has(Some(0), "0 encrypted anew, 2 left as they were");
    // A host joins.
    lab.declare(&Declared {
        hosts: &[("box", &["db", "token"]), ("other", &["db"]), ("third", &["db"])],
        ..USUAL
    });
    let (code, table) = lab.check();
    assert_eq!(code, WRONG);
    assert!(table.contains("not for third"), "{table}");
    let built = lab.tree.rickbuild(&["check", "case"]);
    assert_eq!(built.status.code(), WRONG);
    assert!(String::from_utf8(built.stderr).unwrap().contains("`third` cannot read its secret `db`"));
    let told = rekey(&[]);
    told.has(Some(0), "secrets/case/db.age  + third\n1 encrypted anew, 1 left as they were\n");
    lab.readers("db", &["box", "other", "third", "alice", "bob"]);
    assert_eq!(lab.reads("third", "db").unwrap(), b"shared");
    assert_eq!(lab.bytes("token"), before.1);
    // An operator leaves, and a host needs it no more; another operator comes.
    lab.declare(&Declared { hosts: &[("box", &["db", "token"]), ("third", &["db"])], operators: &["alice"] });
    rekey(&["token"]).has(Some(0), "token.age  - a key of age\n");
    lab.readers("token", &["box", "alice"]);
    let told = rekey(&[]);
    told.has(Some(0), "db.age  - `ssh-ed25519 ");
    told.has(Some(0), "make new ones");
    lab.readers("db", &["box", "third", "alice"]);
    // A key of age took another's place: only --all can know.
    lab.declare(&Declared { operators: &["alice", "bob"], ..USUAL });
    rekey(&[]).has(Some(0), "2 encrypted anew");
    lab.declare(&Declared { operators: &["alice", "carol"], ..USUAL });
    rekey(&[]).has(Some(0), "0 encrypted anew");
    rekey(&["--all"]).has(Some(0), "token.age  anew");
    lab.readers("token", &["box", "alice", "carol"]);
    // A host is installed anew.
    fs::remove_file(lab.private("box")).unwrap();
    lab.make_ssh_key("box");
    lab.declare(&Declared { operators: &["alice", "carol"], ..USUAL });
    rekey(&[]).has(Some(0), "+ box");
    assert_eq!(lab.reads("box", "token").unwrap(), b"own");
    assert_eq!(lab.check().0, Some(0));
}

#[test]
fn encrypting_anew_is_all_or_nothing_for_each_file() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    lab.set("db", b"shared").has(Some(0), "");
    let plain = b"in clear";
    fs::write(lab.file("token"), plain).unwrap();
    lab.declare(&Declared { operators: &["alice"], ..USUAL });
    let before = lab.bytes("db");
    let rekey = |who: &str| said(&mut lab.secrets(&["rekey", "case", "-i", &lab.private(who)]));
    rekey("mallory").has(REFUSED, "cannot decrypt secrets/case/db.age");
    assert_eq!(lab.bytes("db"), before);
    let told = rekey("alice");
    told.has(REFUSED, "left as they are, since they hold no secret: `secrets/case/token.age`");
    told.has(REFUSED, "1 encrypted anew");
    assert_eq!(lab.bytes("token"), plain);
    let (code, table) = lab.check();
    assert!(code == WRONG && table.contains("NOT ENCRYPTED"), "{table}");
    // What age writes without being asked for text.
    let output = lab.run(
        "age",
        &["-r", &lab.public("alice"), "-o", lab.file("token").to_str().unwrap(), "/etc/hostname"],
    );
    assert!(output.status.success(), "{output:?}");
    rekey("alice").has(Some(0), "token.age  anew");
    lab.readers("token", &["box", "alice"]);
}

#[test]
fn who_can_read_what_is_a_table_for_people_and_json_for_tools() {
    require_programs!("age");
    let lab = Lab::new(&USUAL);
    lab.set("db", b"x").has(Some(0), "");
    fed(lab.secrets(&["set", "case", "old", "--new"]), b"x").has(Some(0), "");
    let (code, table) = lab.check();
    assert_eq!(code, WRONG);
    let expected = "\
SECRET  NEEDED BY   READ BY
db      box, other  box, other, alice, a key of age
old     -           alice, a key of age              no host needs it
token   box         -                                missing
";
    assert_eq!(table, expected);
    let output = lab.secrets(&["check", "case", "--json"]).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows[0]["read_by"], serde_json::json!(["box", "other", "alice", "a key of age"]));
    assert_eq!((rows[0]["wrong"].is_null(), rows[2]["wrong"].as_str()), (true, Some("missing")));
    // A file that is encrypted to somebody else in the place of a host: somebody changed the tree.
    let forged = lab.run(
        "age",
        &["-a", "-r", &lab.public("mallory"), "-o", lab.file("db").to_str().unwrap(), "/etc/hostname"],
    );
    assert!(forged.status.success());
    let (_, table) = lab.check();
    assert!(
        table.contains("not for box, other; not for `alice`, a key of age; also for `ssh-ed25519 "),
        "{table}"
    );
}

/// A plugin of age, as one for a hardware key is: it speaks the protocol, and its "key" turns bytes around.
const PLUGIN: &str = r#"#!/usr/bin/python3
import base64, sys

def say(*words, body=b""):
    text = base64.b64encode(body).decode().rstrip("=")
    lines = [text[start:start + 64] for start in range(0, len(text) + 1, 64)]
    sys.stdout.write("-> " + " ".join(words) + "\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()

def hear():
    words, text = sys.stdin.readline()[3:].split(), ""
    while True:
        line = sys.stdin.readline().rstrip("\n")
        text += line
        if len(line) < 64:
            return words, base64.b64decode(text + "=" * (-len(text) % 4))

heard = []
while not heard or heard[-1][0][0] != "done":
    heard.append(hear())
for words, body in heard:
    if words[0] == "wrap-file-key":
        say("recipient-stanza", "0", "stick", "turned", body=body[::-1])
        hear()
    if words[0] == "recipient-stanza" and words[2] == "stick":
        say("file-key", words[1], body=body[::-1])
        hear()
say("done")
"#;

#[test]
fn keys_that_a_plugin_knows_are_operators_too() {
    require_programs!("age", "python3");
    let (lab, programs) = (Lab::new(&USUAL), tempfile::tempdir().unwrap());
    let plugin = programs.path().join("age-plugin-stick");
    fs::write(&plugin, PLUGIN).unwrap();
    fs::set_permissions(&plugin, Permissions::from_mode(0o755)).unwrap();
    lab.tree.edit("environments/case.star", "operators = [", "operators = [\"age1stick1dahx2al8xrd\", ");
    let with_plugin = |arguments: &[&str]| {
        let mut command = lab.secrets(arguments);
        command.env("PATH", format!("/usr/bin:/bin:{}", programs.path().display()));
        command
    };
    fed(with_plugin(&["set", "case", "db"]), b"on a stick").has(Some(0), "age1stick1");
    fed(with_plugin(&["set", "case", "token"]), b"x").has(Some(0), "new");
    let (code, table) = lab.check();
    assert!(code == Some(0) && table.contains("a key of age, a key of a plugin"), "{table}");
    fs::write(lab.private("stick"), "AGE-PLUGIN-STICK-1DAHX2Z66HJ6\n").unwrap();
    let rekey = with_plugin(&["rekey", "case", "db", "--all", "-i", &lab.private("stick")]);
    fed(rekey, b"").has(Some(0), "db.age  anew");
    assert_eq!(lab.reads("box", "db").unwrap(), b"on a stick");
    // It must be there for encrypting as well.
    lab.set("db", b"x").has(REFUSED, "cannot encrypt secrets/case/db.age");
    lab.declare(&USUAL);
    assert!(lab.check().1.contains("also for a key of a plugin"));
}

#[test]
fn where_no_folder_is_in_memory_nothing_is_decrypted() {
    require_programs!("age");
    require_root!();
    let lab = Lab::new(&USUAL);
    lab.set("db", KNOWN.as_bytes()).has(Some(0), "");
    let call = lab.edit("db", "echo x > \"$1\"");
    // A folder of a disk in the place of the one in memory, for this process alone.
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = lab.command("unshare");
    command.args(["--mount", "sh", "-euc", "mount --bind \"$0\" /dev/shm; exec \"$@\""]).arg(disk.path());
    command.arg(call.get_program()).args(call.get_args()).env("EDITOR", lab.private("editor"));
    command.env("XDG_RUNTIME_DIR", disk.path());
    said(&mut command).has(REFUSED, "no place in memory");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    assert_eq!(lab.reads("box", "db").unwrap(), KNOWN.as_bytes());
}

#[test]
fn a_key_with_a_passphrase_and_one_of_rsa_do_as_well() {
    require_programs!("age", "script");
    let lab = Lab::new(&USUAL);
    for (name, kind, passphrase) in [("third", "rsa", ""), ("alice", "ed25519", "open sesame")] {
        let _ = fs::remove_file(lab.private(name));
        let made = lab
            .run("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", name, "-f", &lab.private(name)]);
        assert!(made.status.success());
    }
    lab.declare(&Declared { hosts: &[("third", &["db"])], operators: &["alice"] });
    lab.set("db", b"before").has(Some(0), "for third, alice");
    assert_eq!(lab.reads("third", "db").unwrap(), b"before");
    assert_eq!(lab.check().0, Some(0));
    // age asks at the terminal, not in our pipes.
    let call = lab.edit("db", "echo after > \"$1\"");
    lab.at_a_terminal(&call, &[("passphrase", "open sesame\r")]).has(Some(0), "replaced");
    assert_eq!(lab.reads("third", "db").unwrap(), b"after");
}

#[test]
fn what_is_in_clear_is_in_no_file_no_argument_and_no_environment() {
    require_programs!("age", "strace");
    let lab = Lab::new(&USUAL);
    let shown = lab.private("shown");
    // While the value is open, all processes are looked at.
    let look = format!(
        "for process in /proc/[0-9]*; do if grep -qa 'hors[e]-' $process/cmdline $process/environ 2>/dev/null; then echo $process >> {shown}; fi; done; echo looked >> {shown}"
    );
    let trace = lab.private("trace");
    let traced = |call: &Command, input: &[u8]| {
        let mut command = lab.command("strace");
        command.args(["-f", "-qq", "-s", "4096", "-e", "trace=execve,openat,open,creat", "-o", &trace]);
        command.arg(call.get_program()).args(call.get_args());
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        fed(command, input).has(Some(0), "");
        let text = fs::read_to_string(&trace).unwrap();
        fs::remove_file(&trace).unwrap();
        assert!(!text.contains("horse-"), "{text}");
        text
    };
    traced(&lab.secrets(&["set", "case", "db"]), KNOWN.as_bytes());
    traced(&lab.secrets(&["rekey", "case", "--all", "-i", &lab.private("alice")]), b"");
    let text =
        traced(&lab.edit("db", &format!("grep -q 'hors[e]-' \"$1\"; {look}; echo more >> \"$1\"")), b"");
    assert_eq!(fs::read_to_string(&shown).unwrap(), "looked\n");
    // What was opened to be written lies in the tree, in memory, in the cache, or is no file.
    let home = lab.home.path().to_str().unwrap();
    let tree = lab.tree.path().to_str().unwrap();
    for line in text.lines().filter(|line| line.contains("O_WRONLY") || line.contains("O_RDWR")) {
        let path = line.split('"').nth(1).unwrap();
        let known = [home, tree, "/dev/"].iter().any(|place| path.starts_with(place));
        assert!(known, "{line}");
    }
    assert_eq!(lab.hunt("horse-"), [""; 0]);
    // Nor is it in what a host gets.
    lab.well(&["generate", "case", "--missing"]);
    let bundle = lab.private("bundle.tar");
    let built = lab.tree.rickbuild(&["case", "--output", &bundle]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(lab.hunt("horse-"), [""; 0]);
}
