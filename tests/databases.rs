//! What services keep in a database: it is saved and comes back whole, whatever is killed, and moves to the next major version.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::kept::make_secret;
use crate::support::lab::{logged, wait_for};
use crate::support::source::{self, Tree};
use crate::support::{Host, NEXT_SUITE, activator, require_hosts, usual_suite};

/// What saves and loads.
const STATE: &str = "/var/lib/rick/current/etc/postgresql/state";
/// A name that has to be quoted wherever it stands.
const DATABASE: &str = "it's a \\ \"book\"";

/// An environment of one host: the server, and a service that keeps a database of this name.
fn environment(options: &str, name: &str, extensions: &str) -> Tree {
    let tree = source::modules();
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    tree.write(
        "modules/books/books.star",
        &format!(
            r#"load("//modules/postgresql", "Database", "PostgresInfo", "database")

def _build(ctx, pg: PostgresInfo):
    return [user("books", groups = [pg.client_group])] + database(pg, "{name}", owner = "books", extensions = [{extensions}])

books = module(doc = "Keeps books.", requires = {{"pg": PostgresInfo}}, contributes = [Database], build = _build)
"#
        ),
    );
    postgresql(&tree, options);
    tree
}

/// Says with which options the server runs.
fn postgresql(tree: &Tree, options: &str) {
    tree.write(
        "environments/library.star",
        &format!(
            r#"load("//modules/books", "books")
load("//modules/postgresql", "postgresql")

environment(
    name = "library",
    hosts = [host(name = "library", domain = "example.net", os = "debian-13", services = [postgresql({options}), books()])],
)
"#
        ),
    );
}

/// The major version that the usual Debian brings.
fn version() -> u32 {
    if usual_suite() == "trixie" { 17 } else { 18 }
}

fn activate(host: &Host, tree: &Tree) -> Output {
    host.push(&tree.bundle("library"), "/root/bundle.tar");
    host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A host with that database, still empty.
fn library(name: &str, options: &str) -> Host {
    let host = Host::boot("library");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    let tree = environment(&format!("version = {}{options}", version()), name, "\"pg_trgm\"");
    let output = activate(&host, &tree);
    assert!(output.status.success(), "{}", said(&output));
    host
}

fn binaries(version: u32) -> String {
    format!("/usr/lib/postgresql/{version}/bin")
}

/// The command that a backup or a restore calls, as the user that it calls it as.
fn command(what: &str, name: &str) -> Vec<String> {
    let clean =
        ["env", "--ignore-environment", "--chdir=/", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    let call = [STATE, what, &binaries(version()), name];
    [&clean[..], &user, &call].concat().into_iter().map(str::to_owned).collect()
}

/// Calls the script; what it reads is a file of the host.
fn state(host: &Host, what: &str, name: &str, input: &str) -> Output {
    let command = command(what, name);
    let script = ["bash", "-c", r#"input=$1; shift; exec "$@" <"$input""#, "state", input];
    let command: Vec<&str> = script.into_iter().chain(command.iter().map(String::as_str)).collect();
    host.run(&command)
}

/// Saves to a file of the host.
#[track_caller]
fn save(host: &Host, name: &str, file: &str) {
    let command = command("save", name);
    let script = ["bash", "-euc", r#"file=$1; shift; "$@" >"$file""#, "save", file];
    host.ok(&script.into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>());
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}

fn is_empty(host: &Host, name: &str) -> Option<i32> {
    state(host, "empty", name, "/dev/null").status.code()
}

/// Runs SQL as a Unix user, in a database by its connection string.
fn sql(host: &Host, user: &str, connection: &str, text: &str) -> String {
    let command =
        ["runuser", "-u", user, "--", "psql", "-XqAt", "--set=ON_ERROR_STOP=1", "--dbname", connection];
    let output = host.run_with(&command, text.as_bytes());
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// All that a database holds and is, as text that can be compared, without the words that are other ones each time.
fn everything(host: &Host, connection: &str) -> String {
    let dump = ["runuser", "-u", "postgres", "--", "pg_dump", "--create", "--dbname", connection];
    let text = host.ok(&dump);
    text.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Much of what a database can hold, made by the owner.
const BOOKS: &str = r#"
CREATE SCHEMA "lent out";
CREATE TYPE mood AS ENUM ('calm', 'loud');
CREATE DOMAIN shelf AS int CHECK (VALUE BETWEEN 1 AND 99);
CREATE TABLE author (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE book (
  id bigserial PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE, title text, mood mood, shelf shelf, cover bytea, facts jsonb,
  "long title" text GENERATED ALWAYS AS (title || ' (' || id || ')') STORED
);
COMMENT ON TABLE book IS 'All of them; it''s long';
COMMENT ON COLUMN book.title IS 'as printed';
CREATE INDEX ON book USING gin (title gin_trgm_ops);
CREATE TABLE "lent out".loan (book bigint REFERENCES book, at timestamptz, note text COLLATE "C") PARTITION BY RANGE (at);
CREATE TABLE "lent out".loan_2025 PARTITION OF "lent out".loan FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE SEQUENCE ticket START 1000 INCREMENT 7;
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.facts = coalesce(NEW.facts, '{}') || '{"seen": true}'; RETURN NEW; END $$;
CREATE TRIGGER seen BEFORE UPDATE ON book FOR EACH ROW EXECUTE FUNCTION count_up();
ALTER TABLE author ENABLE ROW LEVEL SECURITY;
ALTER TABLE author FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON author USING (name <> 'nobody') WITH CHECK (true);
CREATE VIEW calm AS SELECT title FROM book WHERE mood = 'calm';
CREATE MATERIALIZED VIEW titles AS SELECT count(*) AS many FROM book;
CREATE STATISTICS together ON author, shelf FROM book;
GRANT SELECT ON calm TO reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA "lent out" GRANT SELECT ON TABLES TO reader;
INSERT INTO author (name) SELECT 'author ' || i FROM generate_series(1, 50) AS i;
INSERT INTO book (author, title, mood, shelf, cover, facts)
  SELECT 1 + i % 50, E'title\t\\N\n' || i, 'calm', 1 + i % 99, decode(md5(i::text), 'hex'), jsonb_build_object('i', i) FROM generate_series(1, 5000) AS i;
UPDATE book SET shelf = 7 WHERE id % 5 = 0;
INSERT INTO "lent out".loan SELECT i, '2025-03-01'::timestamptz + i * interval '1 minute', NULL FROM generate_series(1, 500) AS i;
SELECT nextval('ticket') FROM generate_series(1, 9);
SELECT lo_from_bytea(4711, 'a large object');
COMMENT ON LARGE OBJECT 4711 IS 'the cover of all covers';
SELECT lo_from_bytea(0, convert_to(repeat('page ' || i, 1000), 'UTF8')) FROM generate_series(1, 20) AS i;
REFRESH MATERIALIZED VIEW titles;
"#;

/// And what only an administrator can make.
const MORE: &str = r#"
CREATE EXTENSION hstore SCHEMA "lent out";
CREATE EXTENSION pageinspect;
CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION told();
CREATE PUBLICATION all_books FOR TABLE book;
CREATE TABLE kept_by_the_administrator (at "lent out".hstore);
INSERT INTO kept_by_the_administrator VALUES ('a => 1');
ALTER DATABASE :"DBNAME" SET search_path = "$user", public, "lent out";
ALTER ROLE reader IN DATABASE :"DBNAME" SET work_mem = '8MB';
ALTER DATABASE :"DBNAME" CONNECTION LIMIT 77;
COMMENT ON DATABASE :"DBNAME" IS 'the library''s';
GRANT CONNECT ON DATABASE :"DBNAME" TO reader;
"#;

/// How libpq is told of a database whose name would be read as something else.
fn connection(name: &str) -> String {
    format!("host=/run/postgresql dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[test]
fn a_database_comes_back_as_it_was() {
    require_hosts!();
    let host = library(DATABASE, "");
    let database = connection(DATABASE);
    // Extensions alone are nothing, and so is a database that is not there.
    assert_eq!(
        sql(&host, "postgres", &database, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'"),
        "1"
    );
    assert_eq!(is_empty(&host, DATABASE), Some(0));
    assert_eq!(is_empty(&host, "none"), Some(0));

    sql(&host, "postgres", "postgres", "CREATE ROLE reader");
    sql(&host, "books", &database, BOOKS);
    sql(
        &host,
        "books",
        &database,
        "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    );
    sql(&host, "postgres", &database, MORE);
    let before = everything(&host, &database);
    for told in
        ["CREATE EVENT TRIGGER told", "loan_2025", "the cover of all covers", "SET search_path", "hstore"]
    {
        assert!(before.contains(told), "{told}: {before}");
    }
    assert_eq!(is_empty(&host, DATABASE), Some(1));
    save(&host, DATABASE, "/root/saved");

    // Somebody is connected, and somebody else comes again and again.
    let background = |unit: &str, script: &str| {
        let unit = format!("--unit={unit}");
        let run =
            ["systemd-run", "--quiet", "--expand-environment=no", "--uid=books", &unit, "bash", "-c", script];
        host.ok(&[&run[..], &["background", &database]].concat());
    };
    background("sleeper", r#"psql "$1" -c 'SELECT pg_sleep(600)'"#);
    background("comer", r#"while :; do psql "$1" -Atc "SELECT 'here'"; done"#);
    let clients = "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'books' AND query ~ 'sleep'";
    wait_for("a client", || sql(&host, "postgres", "postgres", clients) == "t");
    wait_for("another", || host.ok(&["journalctl", "--unit=comer", "--output=cat"]).contains("here"));
    assert_code(&state(&host, "clear", DATABASE, "/dev/null"), 0);
    assert_eq!(is_empty(&host, DATABASE), Some(0));
    only_ours_are_left(&host);
    assert_code(&state(&host, "clear", DATABASE, "/dev/null"), 0);
    assert_code(&state(&host, "restore", DATABASE, "/root/saved"), 0);
    assert_ne!(host.property("sleeper.service", "ActiveState"), "active", "its connection was ended");
    host.ok(&["systemctl", "stop", "comer"]);

    let after = everything(&host, &database);
    assert!(before == after, "{}", similar::TextDiff::from_lines(&before, &after).unified_diff());
    assert_eq!(
        sql(&host, "books", &database, "SELECT nextval('ticket'), nextval('book_id_seq')"),
        "1063|5001"
    );
    assert_eq!(is_empty(&host, DATABASE), Some(1));
    only_ours_are_left(&host);
    // What is there is never overwritten.
    let output = state(&host, "restore", DATABASE, "/root/saved");
    assert_code(&output, 2);
    assert!(said(&output).contains("holds something already"), "{}", said(&output));
    // Each object alone is something.
    for object in [
        "SELECT lo_from_bytea(1, 'x')",
        "CREATE SCHEMA s",
        "CREATE TYPE t AS ENUM ()",
        "CREATE FUNCTION f() RETURNS int RETURN 1",
        "CREATE SEQUENCE q",
        "COMMENT ON SCHEMA public IS 'mine'",
    ] {
        assert_code(&state(&host, "clear", DATABASE, "/dev/null"), 0);
        assert_eq!(is_empty(&host, DATABASE), Some(0), "before {object}");
        let user = if object.contains("public") { "postgres" } else { "books" };
        sql(&host, user, &database, object);
        assert_eq!(is_empty(&host, DATABASE), Some(1), "{object}");
    }
}

fn only_ours_are_left(host: &Host) {
    let names = sql(
        host,
        "postgres",
        "postgres",
        "SELECT datname FROM pg_database WHERE datname ~ '~' OR NOT datallowconn",
    );
    assert_eq!(names, "template0");
}

#[test]
fn what_cannot_be_had_is_said_and_changes_nothing() {
    require_hosts!();
    let host = library("books", "");
    let database = connection("books");
    sql(
        &host,
        "books",
        &database,
        "CREATE TABLE book AS SELECT i, md5(i::text) FROM generate_series(1, 200000) AS i",
    );
    save(&host, "books", "/root/saved");

    let missing = state(&host, "save", "none", "/dev/null");
    assert!(!missing.status.success());
    let missing = state(&host, "restore", "none", "/root/saved");
    assert!(!missing.status.success() && said(&missing).contains("there is none"), "{}", said(&missing));
    let long = state(&host, "empty", &"x".repeat(60), "/dev/null");
    assert_code(&long, 2);

    // The connection is cut in the middle.
    let mut saving = host.command(&[
        "bash",
        "-c",
        &[
            &command("save", "books").join(" "),
            "| (until test -e /run/go-on; do sleep 0.1; done; wc -c); exit ${PIPESTATUS[0]}",
        ]
        .join(" "),
    ]);
    let saving = saving.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let dumps = "SELECT count(*) FROM pg_stat_activity, pg_terminate_backend(pid) WHERE application_name = 'rick-save'";
    wait_for("a dump", || {
        sql(&host, "postgres", "postgres", &dumps.replace(", pg_terminate_backend(pid)", "")) == "1"
    });
    assert_eq!(sql(&host, "postgres", "postgres", dumps), "1");
    host.ok(&["touch", "/run/go-on"]);
    assert!(!saving.wait_with_output().unwrap().status.success(), "half a dump is none");

    // What is no dump, or half of one, is not loaded at all.
    assert_code(&state(&host, "clear", "books", "/dev/null"), 0);
    host.sh("head --bytes=3000000 /root/saved > /root/half; echo nonsense > /root/nonsense; printf '' > /root/nothing");
    for bad in ["half", "nonsense", "nothing"] {
        let output = state(&host, "restore", "books", &format!("/root/{bad}"));
        assert!(!output.status.success(), "{bad}");
        assert_eq!(is_empty(&host, "books"), Some(0), "{bad}");
        only_ours_are_left(&host);
    }
    assert_code(&state(&host, "restore", "books", "/root/saved"), 0);
    assert_eq!(sql(&host, "books", &database, "SELECT count(*) FROM book"), "200000");

    // Nobody answers: that is neither yes nor no.
    host.ok(&["systemctl", "stop", "postgresql.service"]);
    for name in ["books", "none"] {
        assert_code(&state(&host, "empty", name, "/dev/null"), 2);
    }
    for what in ["save", "restore", "clear"] {
        assert!(!state(&host, what, "books", "/root/saved").status.success(), "{what}");
    }
}

/// All rows and large objects, as one word.
const HASH: &str = "SELECT md5(string_agg(word, ',' ORDER BY word)) FROM (
  SELECT i || md5 AS word FROM book UNION ALL SELECT oid || md5(lo_get(oid)) FROM pg_largeobject_metadata) AS words";

#[test]
fn whatever_is_killed_a_database_is_as_it_was_or_as_it_should_be() {
    require_hosts!();
    let host = library("books", ", settings = {\"max_connections\": 20, \"max_locks_per_transaction\": 10}");
    let database = connection("books");
    // More objects than one transaction has locks for.
    sql(
        &host,
        "books",
        &database,
        "CREATE TABLE book AS SELECT i, md5(i::text) FROM generate_series(1, 20000) AS i",
    );
    sql(
        &host,
        "books",
        &database,
        "SELECT count(lo_from_bytea(0, decode(md5(i::text), 'hex'))) FROM generate_series(1, 2000) AS i",
    );
    let whole = sql(&host, "postgres", &database, HASH);
    save(&host, "books", "/root/saved");

    for what in ["restore", "clear"] {
        let prepare = || match what {
            "restore" => assert_code(&state(&host, "clear", "books", "/dev/null"), 0),
            _ if is_empty(&host, "books") == Some(0) => {
                assert_code(&state(&host, "restore", "books", "/root/saved"), 0);
            }
            _ => {}
        };
        prepare();
        let begun = Instant::now();
        start(&host, what);
        wait_for(what, || host.property("job.service", "ActiveState") == "inactive");
        let duration = begun.elapsed();
        assert_eq!(host.property("job.service", "Result"), "success");
        eprintln!("{what}: {duration:?}");
        let mut found = [0, 0];
        for (moment, victim) in
            (0..=4).flat_map(|moment| [(moment, "job.service"), (moment, "postgresql.service")])
        {
            prepare();
            start(&host, what);
            std::thread::sleep(duration * moment / 4);
            host.run(&["systemctl", "kill", "--kill-whom=all", "--signal=KILL", victim]);
            wait_for("the end", || {
                matches!(&*host.property("job.service", "ActiveState"), "inactive" | "failed")
            });
            // systemd counts how often a server starts, too.
            host.run(&["systemctl", "reset-failed", "job.service", "postgresql.service"]);
            wait_for("the server", || {
                host.run(&["runuser", "-u", "postgres", "--", "psql", "-c", "SELECT 1"]).status.success()
            });
            let empty = is_empty(&host, "books").unwrap();
            assert!(empty < 2);
            if empty == 1 {
                assert_eq!(
                    sql(&host, "postgres", &database, HASH),
                    whole,
                    "{what}, killed at {moment}: {victim}"
                );
            }
            found[usize::try_from(empty).unwrap()] += 1;
        }
        eprintln!("{what}: {} times empty, {} times whole", found[0], found[1]);
        assert!(found[0] > 0 && found[1] > 0, "{what}: {found:?}");
    }
    assert_code(&state(&host, "clear", "books", "/dev/null"), 0);
    only_ours_are_left(&host);
    assert_code(&state(&host, "restore", "books", "/root/saved"), 0);
    assert_eq!(sql(&host, "postgres", &database, HASH), whole);
}

/// Starts the script as a unit, of which all processes can be killed.
fn start(host: &Host, what: &str) {
    let unit = ["systemd-run", "--quiet", "--unit=job", "--property=StandardInput=file:/root/saved"];
    host.ok(&unit.into_iter().chain(command(what, "books").iter().map(String::as_str)).collect::<Vec<_>>());
}

/// One word for each file of a cluster, its name, owner, mode, time and bytes.
fn cluster(host: &Host, version: u32) -> String {
    host.sh(&format!(
        "cd /var/lib/rick-postgresql/{version} && (find . -printf '%p %u %m %T@ %s\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum"
    ))
}

fn is_there(host: &Host, path: &str) -> bool {
    host.run(&["test", "-e", &["/var/lib/rick-postgresql/", path].concat()]).status.success()
}

/// What stays on a host that is upgraded to the next release: the server of the one before, and the libraries that it needs.
fn programs_of_the_release_before(host: &Host) {
    let before = crate::support::tree("trixie").unwrap();
    for part in ["usr/lib/postgresql/17", "usr/share/postgresql/17"] {
        host.push(&before.join(part), &["/", part].concat());
    }
    // The compiler of queries, for which a library of 120 MB would have to come along; without it queries are interpreted.
    host.sh("rm -r /usr/lib/postgresql/17/lib/llvmjit* /usr/lib/postgresql/17/lib/bitcode");
    // Libraries need others.
    for _ in 0..5 {
        let missing = host.sh("(ldd /usr/lib/postgresql/17/bin/* /usr/lib/postgresql/17/lib/*.so /usr/local/lib/*.so.* 2>/dev/null || true) | awk '/not found/ { print $1 }' | sort -u");
        for library in missing.lines() {
            let found =
                Command::new("find").arg(before.join("usr/lib")).args(["-name", library]).output().unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            host.push(
                Path::new(found.lines().next().expect(library)),
                &["/usr/local/lib/", library].concat(),
            );
        }
        host.ok(&["ldconfig"]);
        if missing.is_empty() {
            return;
        }
    }
    panic!("libraries are missing");
}

#[test]
fn data_moves_to_the_next_major_version_or_stays_whole() {
    {
        require_hosts!("trixie");
    }
    require_hosts!(NEXT_SUITE);
    let mut host = Host::boot_suite(NEXT_SUITE, "library");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    programs_of_the_release_before(&host);
    let tree = environment("version = 17", DATABASE, "\"pg_trgm\"");
    let first = activate(&host, &tree);
    assert!(first.status.success(), "{}", said(&first));
    let database = connection(DATABASE);
    sql(&host, "postgres", "postgres", "CREATE ROLE reader");
    sql(&host, "books", &database, BOOKS);
    sql(
        &host,
        "books",
        &database,
        "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    );
    sql(&host, "postgres", &database, MORE);
    let books = "SELECT md5(string_agg(md5(book::text), ',' ORDER BY id)), count(*) FROM book";
    let covers =
        "SELECT md5(string_agg(oid || md5(lo_get(oid)), ',' ORDER BY oid)) FROM pg_largeobject_metadata";
    let all = |host: &Host| [books, covers].map(|text| sql(host, "postgres", &database, text));
    let rows = all(&host);

    // Nobody said what becomes of the data: so nothing does, and the host goes back.
    postgresql(&tree, "version = 18");
    let unsaid = activate(&host, &tree);
    assert!(!unsaid.status.success(), "{}", said(&unsaid));
    let journal = logged(&host, &["--unit=postgresql.service"]);
    assert!(journal.contains("say `upgrade_from = 17`"), "{journal}");
    assert!(!is_there(&host, "18"));
    assert_eq!(all(&host), rows);

    postgresql(&tree, "version = 18, upgrade_from = 17");
    let begun = Instant::now();
    let upgraded = activate(&host, &tree);
    eprintln!("an activation with an upgrade: {:?}", begun.elapsed());
    assert!(upgraded.status.success(), "{}", said(&upgraded));
    runs(&host, 18);
    assert_eq!(all(&host), rows);
    assert!(is_there(&host, "17/PG_VERSION") && !is_there(&host, "18.upgrade"));
    assert_ne!(
        sql(&host, "postgres", &database, "SELECT count(*) FROM pg_stats WHERE tablename = 'book'"),
        "0"
    );
    assert_eq!(is_empty_by(&host, 18), Some(1));

    // Killed at whatever moment, the old cluster is what it was, to the byte; and then it goes well, in both ways.
    host.ok(&["systemctl", "stop", "postgresql.service", "postgresql-upgrade.service"]);
    without_marks(&host, &database);
    let untouched = cluster(&host, 17);
    killed_it_leaves_the_old_cluster(&host, &untouched);
    // The whole host goes down in the middle, and what is started at boot does it again.
    away(&host);
    upgrade(&host);
    wait_for("half of it", || is_there(&host, "18.upgrade/new/pg_upgrade_output.d"));
    host.power_cut();
    host.boot_again();
    wait_for("the server", || host.property("postgresql-databases.service", "ActiveState") == "active");
    runs(&host, 18);
    assert_eq!(all(&host), rows);
    assert_eq!(cluster(&host, 17), untouched);

    // The old version runs again, writes, and dies: neither has all, and nobody chooses but the administrator.
    host.ok(&["systemctl", "stop", "postgresql.service", "postgresql-upgrade.service"]);
    let aside = run_aside(&host, &database);
    sql(&host, "postgres", &aside, "INSERT INTO book (title) VALUES ('the last one')");
    host.ok(&["systemctl", "kill", "--kill-whom=all", "--signal=KILL", "old.service"]);
    wait_for("its end", || host.property("old.service", "ActiveState") != "active");
    let refused = host.run(&["systemctl", "start", "postgresql.service"]);
    assert!(!refused.status.success());
    let journal = logged(&host, &["--unit=postgresql-upgrade.service", "--boot"]);
    assert!(journal.contains("PostgreSQL 17 ran again since"), "{journal}");
    away(&host);
    host.ok(&["systemctl", "start", "postgresql.service", "postgresql-databases.service"]);
    assert_eq!(
        sql(&host, "postgres", &database, "SELECT count(*) FROM book WHERE title = 'the last one'"),
        "1"
    );
    assert_eq!(sql(&host, "postgres", &database, "SELECT count(*) FROM book"), "5001");

    // The way back: the data as it was at the upgrade.
    host.ok(&["rick-activate", "rollback", "1"]);
    runs(&host, 17);
    assert_eq!(sql(&host, "postgres", &database, "SELECT count(*) FROM book"), "5001");
}

fn killed_it_leaves_the_old_cluster(host: &Host, untouched: &str) {
    for (way, mode) in [("dumped and loaded", "644"), ("by pg_upgrade", "755")] {
        host.ok(&["chmod", mode, "/usr/lib/postgresql/18/bin/pg_upgrade"]);
        away(host);
        let begun = Instant::now();
        upgrade(host);
        wait_until_ended(host);
        eprintln!("an upgrade, {way}: {:?}", begun.elapsed());
        let journal = logged(host, &["--unit=postgresql-upgrade.service", "--lines=5"]);
        assert!(journal.contains(way) && is_there(host, "18/PG_VERSION"), "{journal}");
        let halfway = if mode == "755" { "new/pg_upgrade_output.d" } else { "databases" };
        for moment in ["old/base", "new.new", "new/PG_VERSION", halfway, "new/rick-upgraded-from"] {
            away(host);
            upgrade(host);
            // The last may be over as soon as it is seen.
            wait_for(moment, || is_there(host, &["18.upgrade/", moment].concat()) || is_there(host, "18"));
            host.run(&[
                "systemctl",
                "kill",
                "--kill-whom=all",
                "--signal=KILL",
                "postgresql-upgrade.service",
            ]);
            wait_until_ended(host);
            let over = is_there(host, "18");
            assert!(
                !over || moment == "new/rick-upgraded-from" && is_there(host, "18/PG_VERSION"),
                "{moment}"
            );
            assert_eq!(cluster(host, 17), untouched, "{way}, killed at {moment}");
        }
    }
}

fn upgrade(host: &Host) {
    host.ok(&["systemctl", "start", "--no-block", "postgresql-upgrade.service"]);
}

fn wait_until_ended(host: &Host) {
    let deadline = Instant::now() + Duration::from_mins(3);
    let runs = || host.property("postgresql-upgrade.service", "ActiveState").ends_with("activating");
    while runs() {
        assert!(Instant::now() < deadline, "the upgrade does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As if nothing had been upgraded yet.
fn away(host: &Host) {
    host.sh("systemctl stop postgresql-upgrade.service; systemctl reset-failed; rm -rf /var/lib/rick-postgresql/18");
}

/// Starts the old server out of the way; gives the connection string of the database there.
fn run_aside(host: &Host, database: &str) -> String {
    host.sh("install -d -o postgres /run/old
        systemd-run --quiet --unit=old --uid=postgres --property=KillSignal=SIGINT --property=KillMode=mixed \
            /usr/lib/postgresql/17/bin/postgres -D /var/lib/rick-postgresql/17 -c listen_addresses= -c unix_socket_directories=/run/old");
    let answers = ["runuser", "-u", "postgres", "--", "psql", "--host=/run/old", "--command=SELECT 1"];
    wait_for("the old server", || host.run(&answers).status.success());
    database.replace("/run/postgresql", "/run/old")
}

/// Releases of November 2026 mark columns with what older ones of the next version do not know, so that their `pg_upgrade` cannot take it
/// over. Here everything was made by a release before.
fn without_marks(host: &Host, database: &str) {
    let aside = run_aside(host, database);
    let others = ["postgres", "template1"].map(|name| format!("host=/run/old dbname={name}"));
    for connection in [&[aside][..], &others].concat() {
        let clean = "UPDATE pg_attribute SET attoptions = NULL WHERE array_to_string(attoptions, ',') ~ '^pg_attver=[0-9]+$'";
        sql(host, "postgres", &connection, clean);
    }
    host.ok(&["systemctl", "stop", "old.service"]);
}

#[track_caller]
fn runs(host: &Host, version: u32) {
    let number = sql(host, "postgres", "postgres", "SHOW server_version_num");
    assert_eq!(number[..2], version.to_string());
}

/// Whether the database is empty, by the programs of a version.
fn is_empty_by(host: &Host, version: u32) -> Option<i32> {
    host.run(&[
        "setpriv",
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        STATE,
        "empty",
        &binaries(version),
        DATABASE,
    ])
    .status
    .code()
}

/// With the repository, the units and the gate that hosts have.
#[test]
fn a_database_that_is_gone_is_restored_before_its_service_starts() {
    require_hosts!();
    let tree = source::modules();
    tree.write(
        "modules/books/books.star",
        r#"load("//modules/postgresql", "Database", "PostgresInfo", "database")

def _build(ctx, pg: PostgresInfo):
    psql = [pg.psql, "--no-psqlrc", "--host=" + pg.socket_dir, "--dbname=books"]
    return database(pg, "books", owner = "books", extensions = ["pg_trgm"]) + [
        user("books", groups = [pg.client_group]),
        unit("books.service", {
            "Unit": {"Wants": pg.ready, "After": pg.ready},
            "Service": {
                "Type": "oneshot",
                "RemainAfterExit": True,
                "User": "books",
                # What a service does that finds nothing, and what it would find then.
                "ExecStart": command(*(psql + ["--command=CREATE TABLE IF NOT EXISTS book (title text); INSERT INTO book VALUES ('started')"])),
            },
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

books = module(doc = "Keeps books.", requires = {"pg": PostgresInfo}, contributes = [Database], build = _build)
"#,
    );
    tree.write(
        "environments/library.star",
        &format!(
            r#"load("//modules/backups", "backups")
load("//modules/books", "books")
load("//modules/postgresql", "postgresql")

environment(
    name = "library",
    hosts = [host(name = "library", domain = "example.net", os = "debian-13", services = [
        backups(repository = "/srv/backups"), postgresql(version = {}), books(),
    ])],
)
"#,
            version()
        ),
    );
    let host = Host::boot("library");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    make_secret(&host, "restic-password", "correct horse");
    let first = activate(&host, &tree);
    assert!(first.status.success(), "{}", said(&first));
    let database = connection("books");
    let more = "CREATE TABLE more AS SELECT i, md5(i::text) FROM generate_series(1, 100000) AS i; SELECT lo_from_bytea(7, 'seven')";
    sql(&host, "books", &database, more);
    host.ok(&["systemctl", "start", "rick-backup-books.service"]);
    let before = everything(&host, &database);

    host.sh("systemctl stop books.service postgresql.service; rm -rf /var/lib/rick-postgresql");
    let again = activate(&host, &tree);
    assert!(again.status.success(), "{}", said(&again));
    // The service found what was there, and did what it does.
    let added = sql(&host, "books", &database, "SELECT count(*) FROM book WHERE title = 'started'");
    assert_eq!(added, "2", "{}", said(&again));
    sql(&host, "books", &database, "DELETE FROM book WHERE ctid <> '(0,1)'");
    let after = everything(&host, &database);
    assert!(before == after, "{}", similar::TextDiff::from_lines(&before, &after).unified_diff());
}
