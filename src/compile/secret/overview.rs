//! Who can read what: a line for each secret of an environment.

use std::collections::BTreeSet;

use serde::Serialize;

use super::audience::{Audience, audiences};
use super::header::{Header, Wrong};
use super::{file_of, name_of};
use crate::compile::Checked;
use crate::compile::source::SourcePath;

/// A secret, or what lies where secrets are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The secret, if the file is called as one.
    pub name: Option<String>,
    /// The file that holds it, or is to.
    pub file: SourcePath,
    /// The hosts that need it.
    pub needed_by: Vec<String>,
    /// Who can read it: hosts, operators, and others by what their header shows.
    pub read_by: Vec<String>,
    /// What is wrong; nothing if all is well.
    pub wrong: Option<String>,
}

/// All secrets of an environment, by file.
pub fn rows(environment: &str, checked: &Checked) -> Vec<Row> {
    let audiences = audiences(&checked.hosts, &checked.operators);
    let needed = audiences.keys().map(|name| file_of(environment, name));
    let files: BTreeSet<SourcePath> = needed.chain(checked.secrets.files.keys().cloned()).collect();
    let everybody = Audience {
        hosts: checked.hosts.iter().filter_map(|host| Some((&host.name, host.ssh_key.as_ref()?))).collect(),
        operators: &checked.operators,
    };
    let row = |file: SourcePath| {
        let name = name_of(environment, &file);
        let audience = name.as_ref().and_then(|name| audiences.get(name));
        let read = checked.secrets.files.get(&file);
        let header = read.and_then(|read| read.as_ref().ok());
        Row {
            needed_by: audience.map_or_else(Vec::new, Audience::hosts),
            read_by: header.map_or_else(Vec::new, |header| everybody.can_read(header)),
            wrong: wrong(audience, read),
            name: name.map(String::from),
            file,
        }
    };
    files.into_iter().map(row).collect()
}

fn wrong(audience: Option<&Audience<'_>>, read: Option<&Result<Header, Wrong>>) -> Option<String> {
    let header = match read {
        None => return Some("missing".to_owned()),
        Some(Err(wrong)) => return Some(wrong.to_string()),
        Some(Ok(header)) => header,
    };
    let Some(audience) = audience else { return Some("no host needs it".to_owned()) };
    let difference = audience.compare(header);
    let hosts: Vec<String> = difference.hosts.iter().map(ToString::to_string).collect();
    let said = [("not for", hosts), ("not for", difference.operators), ("also for", difference.others)];
    let said: Vec<String> = said
        .into_iter()
        .filter(|(_, who)| !who.is_empty())
        .map(|(what, who)| format!("{what} {}", who.join(", ")))
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// The rows for people.
pub fn text(rows: &[Row]) -> String {
    let or_none = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let head = ["SECRET", "NEEDED BY", "READ BY", ""].map(str::to_owned);
    let body = rows.iter().map(|row| {
        let name = row.name.clone().unwrap_or_else(|| row.file.to_string());
        [name, or_none(&row.needed_by), or_none(&row.read_by), row.wrong.clone().unwrap_or_default()]
    });
    let lines: Vec<[String; 4]> = std::iter::once(head).chain(body).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let [first, second, third] = [0, 1, 2].map(width);
    let line = |[name, needed, read, wrong]: &[String; 4]| {
        let line = format!("{name:first$}  {needed:second$}  {read:third$}  {wrong}");
        format!("{}\n", line.trim_end())
    };
    lines.iter().map(line).collect()
}
