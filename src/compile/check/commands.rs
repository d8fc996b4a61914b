//! Commands that rick itself has run, to ask or to judge: a program that the host will have, and arguments that mean the same there.

use super::super::finding::Finding;
use super::super::item::{CURRENT, File};
use super::super::similar::did_you_mean;
use super::stated::{Stated, help};
use super::survey::Survey;
use super::tokens::Known;
use crate::bundle::names::HostPath;
use crate::bundle::token::{Piece, Token, pieces};

/// What every host has, and what it does before it runs the program that follows: it sets variables.
const ENV: &str = "/usr/bin/env";

/// The command in words that stay: a file of the store is named through the current generation. `None` if something is wrong.
pub(super) fn checked(
    survey: &Survey<'_>,
    stated: Stated<'_>,
    command: &[String],
    findings: &mut Vec<Finding>,
) -> Option<Vec<String>> {
    let before = findings.len();
    let known = Known::on(survey);
    let begin = |word: &str, message: String| stated.error(&[word, "command"], message, "");
    let mut words = Vec::new();
    for word in command {
        known.check(word, |message| begin(word, message), findings);
        if word.contains(char::is_control) {
            let message = format!("`{}` is an argument with a control character", word.escape_debug());
            findings.push(begin(word, message));
        }
        words.push(lasting(word).unwrap_or_else(|| {
            let message =
                "a command is given no number of a user or group: a host has it run as it stands".to_owned();
            findings.push(begin(word, message).help("write the name, or give the number to a file or unit"));
            word.clone()
        }));
    }
    if findings.len() == before {
        findings.extend(program(survey, stated, &words));
    }
    (findings.len() == before).then_some(words)
}

/// The word with objects at the path that stays; `None` if it holds a number of the host's.
fn lasting(word: &str) -> Option<String> {
    // What is wrong with a token is told already.
    let Ok(pieces) = pieces(word) else { return Some(word.to_owned()) };
    let text = |piece| match piece {
        Piece::Text(text) => Some(text.to_owned()),
        Piece::Token(Token::Object(name)) => Some(format!("{CURRENT}/objects/{name}")),
        Piece::Token(Token::Uid(_) | Token::Gid(_) | Token::Secret(_)) => None,
    };
    pieces.into_iter().map(text).collect()
}

/// What is wrong with the program, if anything is.
fn program(survey: &Survey<'_>, stated: Stated<'_>, words: &[String]) -> Option<Finding> {
    let mut words = words.iter();
    let mut program = words.next()?;
    if program == ENV {
        let missing = || stated.error(&[ENV, "command"], format!("`{ENV}` is given no program to run"), "");
        match words.find(|word| !word.contains('=')) {
            Some(next) => program = next,
            None => return Some(missing()),
        }
    }
    let error = |message: String| stated.error(&[program, "command"], message, "");
    if !program.starts_with('/') {
        let message =
            format!("the command does not start with an absolute path: `{}`", program.escape_debug());
        let name = program.rsplit('/').next().unwrap_or_default();
        return Some(error(message).help(format!("write the whole path, such as `/usr/bin/{name}`")));
    }
    if let Err(message) = program.parse::<HostPath>() {
        return Some(error(message));
    }
    let programs = || survey.programs.iter().map(|(_, program)| program.path.as_str());
    if programs().any(|known| known == program) || is_file(survey, program) {
        return None;
    }
    let finding = error(format!("`{program}` is run, and no service declares it"));
    let finding = help(finding, did_you_mean(program, programs()));
    Some(finding.help(format!(
        "declare it: `program(\"{program}\", package = …)`; a host without it is then refused"
    )))
}

/// A file that a service brings, or something in a tree that one brings.
fn is_file(survey: &Survey<'_>, path: &str) -> bool {
    let Some(place) = path.strip_prefix(CURRENT).and_then(|path| path.strip_prefix('/')) else {
        return false;
    };
    let holds = |file: &File| {
        place.strip_prefix(&file.place()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    survey.files.iter().any(|(_, file)| holds(file))
}
