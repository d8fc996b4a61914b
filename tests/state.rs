//! A thousand rows and a thousand files of one service, and what Valkey keeps, go every way together: copied and wiped, upgraded and brought back,
//! moved to another host. With the real `PostgreSQL`, Valkey, restic and `OpenSSH`; every byte is compared.

use crate::moves::Pair;
use crate::support::kept::{activate, everything};
use crate::support::lab::{is_well, said};
use crate::support::{Host, require_hosts};

/// A service whose data is in a database and in files; a newer version changes both.
const SHOP: &str = r#"load("//modules/postgresql", "Database", "PostgresInfo", "database")

_MIGRATE = """psql() { "$1" --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 --host="$2" --dbname=shop --command="$3"; }
psql "$1" "$2" 'CREATE TABLE IF NOT EXISTS version (number int); CREATE TABLE IF NOT EXISTS row (id int, sum text)'
had=$(psql "$1" "$2" 'SELECT coalesce(max(number), 0) FROM version')
[[ $had -le $3 ]] || { echo "the data of version $had is too new" >&2; exit 1; }
[[ $had == "$3" ]] || psql "$1" "$2" "INSERT INTO version VALUES ($3); UPDATE row SET sum = sum || '-$3'"
[[ $had == "$3" || ! -e /var/lib/shop/1 ]] || echo "$3" >>/var/lib/shop/1"""

def _build(ctx, pg: PostgresInfo):
    common = {"User": "shop"}
    version = ctx.options.version
    return database(pg, "shop", owner = "shop") + [
        user("shop", groups = [pg.client_group]),
        state("/var/lib/shop", user = "shop", group = "shop", copied = "stopped"),
        unit("shop-migrate.service", {
            "Unit": {"Wants": pg.ready, "After": pg.ready},
            "Service": common | {
                "Type": "oneshot",
                "RemainAfterExit": True,
                "ExecStart": command("/bin/bash", "-euo", "pipefail", "-c", _MIGRATE, "migrate", pg.psql, pg.socket_dir, str(version)),
            },
            "Install": {"WantedBy": "multi-user.target"},
        }, barrier = True),
        unit("shop.service", {
            "Unit": {"Requires": "shop-migrate.service", "After": "shop-migrate.service"},
            "Service": common | {"ExecStart": "/bin/false" if version == 2 else "/bin/sleep infinity"},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

shop = module(
    doc = "Keeps rows and files.",
    options = {"version": option(int, default = 1, doc = "Of its program; 2 does not stay up.")},
    requires = {"pg": PostgresInfo},
    contributes = [Database],
    build = _build,
)
"#;

fn describe(pair: &Pair, old: &str, new: &str) {
    pair.tree.write("modules/shop/shop.star", SHOP);
    for (name, services) in [("old", old), ("new", new)] {
        let loads = r#"load("//modules/backups", "backups")
load("//modules/postgresql", "postgresql")
load("//modules/shop", "shop")
load("//modules/valkey", "valkey")
"#;
        let backups = pair.backups();
        let text = format!(
            "{loads}\nenvironment(name = \"{name}\", hosts = [host(name = \"{name}\", domain = \"example.net\", services = [\n    \
             backups({backups}), postgresql(version = 17), {services}\n])])\n"
        );
        pair.tree.write(&format!("environments/{name}.star"), &text);
    }
}

const SQL: &str =
    "runuser -u postgres -- psql --no-psqlrc --quiet --no-align --tuples-only --host=/run/postgresql";

fn data(host: &Host) -> String {
    let rows = host.sh(&format!(
        "{SQL} --dbname=shop --command='SELECT * FROM row ORDER BY id' --command='TABLE version'"
    ));
    assert_eq!(rows.lines().count(), 1001, "{rows}");
    everything(host, "/var/lib/shop") + &rows
}

#[test]
fn rows_and_files_survive_every_way_together() {
    require_hosts!();
    let pair = Pair::new();
    describe(&pair, "valkey(), shop()", "");
    let (old, new) = (&pair.old, &pair.new);
    activate(old, &pair.tree, "old");
    old.sh("cd /var/lib/shop; for i in $(seq 1000); do echo $RANDOM$RANDOM >$i; done; chown shop:shop *");
    old.sh(&format!("{SQL} --dbname=shop --command=\"INSERT INTO row SELECT i, md5(random()::text) FROM generate_series(1, 1000) AS i\""));
    old.sh("valkey-cli -s /run/valkey-sock/valkey.sock set key value; valkey-cli -s /run/valkey-sock/valkey.sock save");
    let first = data(old);

    // All of it is gone, as with a disk.
    old.ok(&["rick-activate", "backup"]);
    old.sh("systemctl stop shop shop-migrate valkey-server postgresql-databases postgresql; rm -rf /var/lib/shop /var/lib/rick-postgresql /var/lib/valkey");
    let told = old.ok(&["rick-activate", "/root/bundle.tar"]);
    assert_eq!(data(old), first, "{told}");
    assert_eq!(old.sh("valkey-cli -s /run/valkey-sock/valkey.sock get key").trim(), "value");
    is_well(old);

    // An upgrade fails after it changed both.
    describe(&pair, "valkey(), shop(version = 2)", "");
    old.push(&pair.tree.bundle("old"), "/root/bundle.tar");
    let failed = old.run(&["rick-activate", "--settle=1", "/root/bundle.tar"]);
    assert_eq!(failed.status.code(), Some(4), "{}", said(&failed));
    assert!(old.sh("cat /var/lib/shop/1").trim_end().ends_with("\n2"));
    old.sh(&format!("{SQL} --dbname=shop --command='SELECT sum FROM row WHERE id = 7' | grep -q -- -2"));
    let told = old.ok(&["rick-activate", "--settle=0", "rollback", "1", "--with-state"]);
    assert_eq!(data(old), first, "{told}");
    is_well(old);

    // To the other host, whose PostgreSQL is another one.
    describe(&pair, "valkey()", "shop(moved_from = \"old/old\")");
    activate(old, &pair.tree, "old");
    let told = activate(new, &pair.tree, "new");
    assert_eq!(data(new), first, "{told}");
    assert_eq!(data(old), first, "the old host keeps what it had");
    is_well(new);
    old.ok(&["rick-activate", "forget", "shop", "--yes"]);
    old.sh(&format!("test ! -e /var/lib/shop; test -z \"$({SQL} --dbname=shop --command='\\\\dt')\""));
}
