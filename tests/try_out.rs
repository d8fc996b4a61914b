//! `--root DIR`: a bundle tried out on an empty directory, with nothing installed and nothing running.

use std::fs;

use crate::support::root::{activator, differences, everything_below, ok};
use crate::support::source;

#[test]
fn an_empty_directory_gets_a_whole_generation() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("host");
    fs::create_dir(&root).unwrap();
    let tree = source::whole();
    let bundle = tree.bundle("homelab");
    let activate = || ok(activator(&root).args(["--host", "arch-vps"]).arg(&bundle).output().unwrap());
    let run = |arguments: &[&str]| ok(activator(&root).args(arguments).output().unwrap());
    let row = |said: &str, number: &str| {
        said.lines().find(|line| line[2..].starts_with(number)).unwrap().to_owned()
    };

    let dry = ok(activator(&root).args(["--dry-run", "--host", "arch-vps"]).arg(&bundle).output().unwrap());
    assert!(dry.contains("would start caddy.service: new\n"), "{dry}");
    assert_eq!(everything_below(&root).len(), 1, "a dry run leaves the directory empty");

    let said = activate();
    assert!(
        said.contains("\nnote       this host lacks `/usr/bin/caddy` (package caddy, needed by caddy), and"),
        "{said}"
    );
    assert!(said.ends_with("done:      generation 1 (before: 0)\n"), "{said}");
    let current = root.join("var/lib/rick/current");
    for file in ["units/caddy.service", "quadlets/whoami.container", "objects/docs/pages/index.html"] {
        assert!(current.join(file).is_file(), "{file}");
    }
    let everything = everything_below(&root);
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let uid = passwd.lines().find_map(|line| line.strip_prefix("whoami:x:")?.split(':').next()).unwrap();
    let quadlet = fs::read_to_string(current.join("quadlets/whoami.container")).unwrap();
    assert!(quadlet.contains(&format!("\nUser={uid}\n")), "{quadlet}");

    let said = activate();
    assert!(said.contains("nothing to do: generation 1 is current"), "{said}");
    assert_eq!(differences(&everything, &everything_below(&root)), [""; 0]);

    let table = run(&["list"]);
    assert!(
        row(&table, "0 ").ends_with("(empty)")
            && row(&table, "1 ").contains("homelab      arch-vps     good, ")
    );
    assert!(row(&table, "1 ").starts_with("* "), "{table}");

    let said = run(&["rollback", "0"]);
    assert!(said.contains("stop       caddy.service: gone from the environment\n"), "{said}");
    assert!(said.ends_with("done:      generation 0 (before: 1)\n"), "{said}");
    assert!(!current.join("units/caddy.service").exists());
    let list: serde_json::Value = serde_json::from_str(&run(&["list", "--json"])).unwrap();
    assert_eq!((&list[0]["number"], &list[0]["current"]), (&0.into(), &true.into()), "{list}");
    assert_eq!((&list[1]["environment"], &list[1]["host"]), (&"homelab".into(), &"arch-vps".into()));
    assert_eq!(list.as_array().unwrap().len(), 2);

    assert!(run(&["rollback", "1", "--json"]).contains("\"changed\":true"));
    assert_eq!(differences(&everything, &everything_below(&root)), [""; 0], "back as it was");
}
