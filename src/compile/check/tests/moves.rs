//! Moves between two hosts that are both known.

use super::super::moves::{self, Described};
use super::bench::Bench;
use crate::compile::finding::Finding;
use crate::compile::item::Evaluation;

const COMMON: &str = "rest:https://backup.example.net/all";

/// An environment with one host, both of this name.
fn named(name: &str, bench: Bench) -> Evaluation {
    let mut evaluation = bench.evaluation();
    name.clone_into(&mut evaluation.environment);
    name.clone_into(&mut evaluation.hosts[0].name);
    evaluation
}

fn with_copies(address: &str) -> Bench {
    Bench::new().service("backups").repository(address, true)
}

fn findings(evaluations: &[Evaluation]) -> Vec<Finding> {
    let described: Vec<_> = evaluations
        .iter()
        .map(|evaluation| Described { environment: &evaluation.environment, hosts: &evaluation.hosts })
        .collect();
    moves::check(&described)
}

#[track_caller]
fn says(evaluations: &[Evaluation], expected: &[&str]) -> Vec<Finding> {
    let findings = findings(evaluations);
    let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, expected);
    findings
}

/// What is to come from `old`.
fn new(address: &str) -> Evaluation {
    named("new", with_copies(address).service("app").moved_from("old/old"))
}

#[test]
fn a_service_that_left_a_host_moves_by_way_of_what_both_reach() {
    says(&[named("old", with_copies(COMMON)), new(COMMON)], &[]);
}

#[test]
fn a_service_is_not_on_two_hosts() {
    let findings = says(
        &[named("old", with_copies(COMMON).service("app")), new(COMMON)],
        &["`app` would be on two hosts"],
    );
    assert_eq!(findings[0].secondary.len(), 1);
}

#[test]
fn hosts_without_a_common_repository_exchange_nothing() {
    let message = "`app` cannot come from `old/old`: the two hosts have no repository in common";
    let elsewhere = "rest:https://backup.example.net/other";
    let only_copies = Bench::new().service("backups").repository(COMMON, false);
    for (old, address) in [
        (with_copies(elsewhere), COMMON),
        (with_copies("/srv/backups"), "/srv/backups"),
        (with_copies("/srv/backups"), COMMON),
        (only_copies, COMMON),
        (Bench::new(), COMMON),
    ] {
        says(&[named("old", old), new(address)], &[message]);
    }
}

#[test]
fn a_host_that_an_environment_does_not_have_lets_nothing_go() {
    let mut other = named("old", with_copies(COMMON));
    other.hosts[0].name = "odl".into();
    let findings = says(&[other, new(COMMON)], &["`old` has no host `old`, from which `app` comes"]);
    assert_eq!(findings[0].help[0], "did you mean `odl`?");
}

#[test]
fn a_service_moves_to_one_host() {
    let third = named("third", with_copies(COMMON).service("app").moved_from("old/old"));
    says(
        &[named("old", with_copies(COMMON)), new(COMMON), third],
        &["two hosts are to have `app` from `old/old`"],
    );
}

#[test]
fn of_an_environment_that_is_not_known_nothing_is_said() {
    says(&[new(COMMON)], &[]);
}

#[test]
fn moves_within_an_environment_are_looked_at_whenever_it_is_checked() {
    let mut both = with_copies(COMMON).service("app").evaluation();
    let mut new =
        with_copies("/srv/backups").service("app").moved_from("test/box").evaluation().hosts.remove(0);
    new.name = "new".into();
    both.hosts.push(new);
    let lock = crate::compile::lock::Lock::default();
    let said = super::super::check(&both, &lock).findings;
    for message in [
        "`app` would be on two hosts",
        "`app` cannot come from `test/box`: the two hosts have no repository in common",
    ] {
        assert!(said.iter().any(|finding| finding.message == message), "{message}");
    }
}
