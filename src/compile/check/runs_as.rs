//! Users and groups that units name are declared by a service of the host.

use std::collections::BTreeSet;

use super::super::finding::Finding;
use super::accounts::unknown;
use super::survey::Survey;
use super::written::{Entry, Written};

const USERS: [(&str, &str); 2] = [("Service", "User"), ("Socket", "SocketUser")];
const GROUPS: [(&str, &str); 3] =
    [("Service", "Group"), ("Service", "SupplementaryGroups"), ("Socket", "SocketGroup")];

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let (users, groups) = (survey.user_names(), survey.group_names());
    for written in survey.written() {
        // A user in a Quadlet's `[Service]` is refused altogether, elsewhere.
        let quadlet = survey.quadlets.iter().any(|(quadlet, _)| std::ptr::eq(quadlet, written));
        let dynamic = matches!(written.value("Service", "DynamicUser"), "yes" | "true" | "1" | "on");
        for (section, key) in USERS.iter().filter(|_| !dynamic && !quadlet) {
            for entry in written.all(section, key) {
                check_entry(written, entry, "user", &users, findings);
            }
        }
        for (section, key) in GROUPS {
            for entry in written.all(section, key) {
                let own = (dynamic || quadlet) && key == "Group";
                if !own {
                    check_entry(written, entry, "group", &groups, findings);
                }
            }
        }
    }
}

fn check_entry(
    written: &Written<'_>,
    entry: &Entry,
    what: &str,
    known: &BTreeSet<&str>,
    findings: &mut Vec<Finding>,
) {
    for name in entry.value.split_whitespace() {
        // Numbers are right on every host; specifiers and tokens are looked at elsewhere or later.
        let literal = !name.contains(['%', '@', '$']) && !name.bytes().all(|b| b.is_ascii_digit());
        if literal && !known.contains(name) {
            let message = format!("`{}` names the {what} `{name}`, and no service declares it", written.name);
            let finding = written.error(&entry.value_place, message, &format!("unknown {what}"));
            findings.push(unknown(finding, what, name, known));
        }
    }
}
