//! One test for each check, on evaluations made by hand.

mod bench;

use bench::{Bench, says};

use super::super::item::{Noun, Os, Probe, ProbeTarget, Program, Unit, UnitBody};

// The golden ones: what a person sees, whole.

#[test]
fn two_claims_on_a_port() {
    let bench = Bench::new().service("caddy").port(443, "0.0.0.0").service("admin").port(443, "127.0.0.1");
    assert_eq!(bench.check().text, "");
}

#[test]
fn unknown_unit_key() {
    let bench = Bench::new().service("valkey").runs("valkey.service", &[("Unit", "Aftr", "network.target")]);
    assert_eq!(bench.check().text, "");
}

#[test]
fn unknown_user_in_a_unit() {
    let bench = Bench::new()
        .service("valkey")
        .user("valkey", &[], None)
        .runs("valkey.service", &[("Service", "User", "valky")]);
    assert_eq!(bench.check().text, "");
}
