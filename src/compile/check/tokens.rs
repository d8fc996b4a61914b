//! Tokens: in every generated text, they name users, groups and configuration directories of this host.

use std::collections::BTreeSet;

use super::super::finding::Finding;
use super::super::item::{Backend, Content};
use super::super::similar::did_you_mean;
use super::accounts::unknown;
use super::stated::help;
use super::survey::Survey;
use crate::bundle::names::AccountName;
use crate::bundle::secret;
use crate::bundle::token::{Piece, Token, pieces};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let known = Known::on(survey);
    for written in survey.written() {
        for entry in written.entries() {
            let begin = |message: String| written.error(&entry.value_place, message, "");
            known.check(&entry.value, begin, findings);
        }
    }
    for (stated, file) in &survey.files {
        if let Content::Text(text) = &file.content {
            let begin =
                |message| stated.error(&["content"], format!("in file `{}`: {message}", file.name), "");
            known.check(text, begin, findings);
        }
    }
    for (stated, site) in &survey.sites {
        let (Backend::Files(text) | Backend::Proxy(text)) = &site.backend;
        let begin = |message| stated.error(&["files", "proxy", text], message, "");
        known.check(text, begin, findings);
    }
}

/// What tokens can name.
pub(super) struct Known<'a> {
    users: BTreeSet<&'a str>,
    groups: BTreeSet<&'a str>,
    objects: BTreeSet<&'a str>,
    secrets: BTreeSet<&'a str>,
    /// Secrets come with the bundle.
    decrypts: bool,
}

impl<'a> Known<'a> {
    pub(super) fn on(survey: &Survey<'a>) -> Self {
        let objects = survey.files.iter().filter(|(_, file)| !file.stable);
        Self {
            users: survey.user_names(),
            groups: survey.group_names(),
            objects: objects.map(|(_, file)| file.object.as_str()).collect(),
            decrypts: survey.host.ssh_key.is_some(),
            secrets: survey.secrets.iter().map(|(_, secret)| secret.name.as_str()).collect(),
        }
    }

    pub(super) fn check(&self, text: &str, begin: impl Fn(String) -> Finding, findings: &mut Vec<Finding>) {
        match pieces(text) {
            Err(message) => findings.push(begin(message)),
            Ok(pieces) => {
                let tokens = pieces.into_iter().filter_map(|piece| match piece {
                    Piece::Token(token) => Some(token),
                    Piece::Text(_) => None,
                });
                let tokens: BTreeSet<Token> = tokens.collect();
                findings.extend(tokens.iter().filter_map(|token| self.finding(token, &begin)));
            }
        }
    }

    fn finding(&self, token: &Token, begin: impl Fn(String) -> Finding) -> Option<Finding> {
        match token {
            Token::Uid(name) => account("user", &self.users, name.as_str(), begin),
            Token::Gid(name) => account("group", &self.groups, name.as_str(), begin),
            Token::Object(name) if self.objects.contains(name.as_str()) => None,
            Token::Secret(file) if !self.secrets.contains(file.name.as_str()) => {
                let finding =
                    begin(format!("the secret `{}` is asked for, and no service states it", file.name));
                let finding = help(finding, did_you_mean(file.name.as_str(), self.secrets.iter().copied()));
                Some(finding.help(format!("state it with `secret(\"{}\")`", file.name)))
            }
            Token::Secret(file) if !self.decrypts => {
                let message = format!(
                    "the file of the secret `{}` is asked for, and this host keeps its secrets itself",
                    file.name
                );
                Some(begin(message).help("say its `ssh_key`, so that they come with the bundle; or load it as a credential: `LoadCredentialEncrypted=`"))
            }
            Token::Secret(file) => {
                let root = |name: &AccountName| name.as_str() == secret::ROOT;
                let user =
                    (!root(&file.user)).then(|| account("user", &self.users, file.user.as_str(), &begin));
                user.flatten().or_else(|| {
                    let group = (!root(&file.group))
                        .then(|| account("group", &self.groups, file.group.as_str(), &begin));
                    group.flatten()
                })
            }
            Token::Object(name) => {
                let finding =
                    begin(format!("the service `{name}` has no configuration directory in the store"));
                Some(help(finding, did_you_mean(name.as_str(), self.objects.iter().copied())))
            }
        }
    }
}

fn account(
    what: &str,
    known: &BTreeSet<&str>,
    name: &str,
    begin: impl Fn(String) -> Finding,
) -> Option<Finding> {
    let finding =
        || begin(format!("the number of the {what} `{name}` is asked for, and no service declares it"));
    (!known.contains(name)).then(|| unknown(finding(), what, name, known))
}
