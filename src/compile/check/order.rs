//! No unit waits for itself: the order of the host's units has no cycle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::finding::Finding;
use super::fields::field;
use super::provided::Provided;
use super::stated::and_once;
use super::survey::Survey;
use super::written::{Place, Written};

/// `later` starts after `earlier`, because of what stands at `place`.
struct Edge<'a> {
    earlier: String,
    later: String,
    written: &'a Written<'a>,
    place: Option<&'a Place>,
}

pub(super) fn check(survey: &Survey<'_>, provided: &Provided<'_>, findings: &mut Vec<Finding>) {
    let edges = edges(survey, provided);
    let mut graph: BTreeMap<&str, Vec<&Edge<'_>>> = BTreeMap::new();
    for edge in &edges {
        graph.entry(&edge.later).or_default().push(edge);
    }
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for start in graph.keys() {
        if told.contains(start) {
            continue;
        }
        if let Some(cycle) = shortest_cycle(&graph, start) {
            told.extend(cycle.iter().map(|edge| edge.later.as_str()));
            findings.push(finding(&cycle));
        }
    }
}

fn edges<'a>(survey: &'a Survey<'a>, provided: &Provided<'_>) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for written in survey.written() {
        let own = provided.quadlets.get(written.name).map_or(written.name, String::as_str);
        for (key, entry) in ["After", "Before"]
            .iter()
            .flat_map(|key| written.all("Unit", key).into_iter().map(move |entry| (*key, entry)))
        {
            for other in entry.value.split_whitespace() {
                let other = provided.quadlets.get(other).map_or(other, String::as_str).to_owned();
                let (earlier, later) =
                    if key == "After" { (other, own.to_owned()) } else { (own.to_owned(), other) };
                edges.push(Edge { earlier, later, written, place: Some(&entry.value_place) });
            }
        }
        edges.extend(implied(written, own, provided));
    }
    edges
}

/// What systemd and Quadlet add: what triggers a unit comes before it, and a container after what it names.
fn implied<'a>(written: &'a Written<'a>, own: &str, provided: &Provided<'_>) -> Vec<Edge<'a>> {
    let after = ["Pod", "Network", "Volume", "Image"].into_iter().flat_map(|key| {
        let entries = ["Container", "Pod", "Volume", "Build", "Kube"].into_iter();
        entries.flat_map(move |section| written.all(section, key))
    });
    let mut edges = Vec::new();
    for entry in after {
        let name = field(&entry.value, 0);
        if let Some(unit) = provided.quadlets.get(name) {
            edges.push(Edge {
                earlier: unit.clone(),
                later: own.to_owned(),
                written,
                place: Some(&entry.value_place),
            });
        }
    }
    if let Some((stem, "timer" | "path" | "socket")) = own.rsplit_once('.') {
        let named = ["Timer", "Path"].iter().map(|section| written.value(section, "Unit"));
        let named = named.chain([written.value("Socket", "Service")]).find(|name| !name.is_empty());
        let later = named.map_or_else(|| format!("{stem}.service"), str::to_owned);
        edges.push(Edge { earlier: own.to_owned(), later, written, place: None });
    }
    edges
}

/// The shortest way from a unit back to itself, each edge waiting for the next; breadth first, in the order of the source.
fn shortest_cycle<'a>(graph: &BTreeMap<&str, Vec<&'a Edge<'a>>>, start: &str) -> Option<Vec<&'a Edge<'a>>> {
    let mut came_by: BTreeMap<&str, &'a Edge<'a>> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(unit) = queue.pop_front() {
        for edge in graph.get(unit).into_iter().flatten() {
            if came_by.contains_key(edge.earlier.as_str()) {
                continue;
            }
            came_by.insert(&edge.earlier, edge);
            if edge.earlier == start {
                return Some(way_back(&came_by, start));
            }
            queue.push_back(&edge.earlier);
        }
    }
    None
}

fn way_back<'a>(came_by: &BTreeMap<&str, &'a Edge<'a>>, start: &str) -> Vec<&'a Edge<'a>> {
    let mut cycle = Vec::new();
    let mut unit = start;
    while let Some(edge) = came_by.get(unit) {
        cycle.push(*edge);
        unit = &edge.later;
        if unit == start {
            break;
        }
    }
    cycle.reverse();
    cycle
}

fn finding(cycle: &[&Edge<'_>]) -> Finding {
    let first = cycle[0];
    let names = cycle.iter().map(|edge| edge.later.as_str()).chain([first.later.as_str()]);
    let chain = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" after ");
    let message = format!("these units wait for each other: {chain}");
    let words = |edge: &Edge<'_>| format!("`{}` is after `{}`", edge.later, edge.earlier);
    let mut finding = match first.place {
        Some(place) => first.written.error(place, message, &words(first)),
        None => first.written.stated.error(&[first.written.name], message, &words(first)),
    };
    for edge in &cycle[1..] {
        let span = edge.place.map_or(edge.written.stated.place(&[edge.written.name]), Place::span);
        finding = and_once(finding, span, words(edge));
    }
    finding.help("take one of them out: systemd would leave one of the units unstarted")
}
