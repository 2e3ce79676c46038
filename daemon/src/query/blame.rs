//! Where the trouble sits: the deepest failing service along observed calls.
//!
//! A caller of something slow is slow itself, so of the services out of line those are asked about
//! first whose own callees are in line. Only edges that were seen count; that two things went bad at
//! about the same time is no edge.

use std::collections::{BTreeMap, BTreeSet};

use coral_model::view::{NodeKind, PathStep};

use super::digest::Scene;
use super::rules::{Off, What};
use super::topology::JudgedEdge;

/// Steps of a path upwards from the suspect.
const CALLERS: usize = 5;

/// The verdict.
#[derive(Debug, Default)]
pub struct Blame {
    /// The service.
    pub suspect: Option<String>,
    /// Callers to callees, through it.
    pub path: Vec<PathStep>,
    /// The suspect's calls to what is not a service or is out of line, worst first: indices into the
    /// scene's edges.
    pub callees: Vec<usize>,
}

struct Graph<'a> {
    levels: BTreeMap<&'a str, u8>,
    down: BTreeMap<&'a str, Vec<&'a JudgedEdge>>,
    up: BTreeMap<&'a str, Vec<&'a JudgedEdge>>,
}

impl<'a> Graph<'a> {
    fn new(scene: &Scene<'a>) -> Self {
        let mut levels: BTreeMap<&str, u8> =
            scene.services.iter().map(|j| (j.row.service.as_str(), j.worst)).collect();
        let mut graph =
            Self { levels: BTreeMap::new(), down: BTreeMap::new(), up: BTreeMap::new() };
        for edge in scene.edges.iter().filter(|edge| edge.carries()) {
            graph.down.entry(&edge.row.from).or_default().push(edge);
            graph.up.entry(&edge.row.to).or_default().push(edge);
        }
        // A service is failing when those who call it fail at calling it and it says nothing of
        // those calls. What it answers with an error that it does not call one is the caller's.
        for judged in scene.services {
            let silent = judged.row.red.is_none();
            let failed = |e: &&JudgedEdge| {
                let errors =
                    |o: &Off| o.level == 2 && matches!(o.what, What::Errors | What::NoAnswer);
                e.off.iter().any(errors) && (silent || e.unheard)
            };
            let callers = graph.up.get(judged.row.service.as_str());
            if callers.is_some_and(|callers| callers.iter().any(failed)) {
                levels.insert(&judged.row.service, 2);
            }
        }
        graph.levels = levels;
        graph
    }

    fn level(&self, name: &str) -> u8 {
        self.levels.get(name).copied().unwrap_or(0)
    }

    /// Services called by `name` directly.
    fn services_below(&self, name: &str) -> impl Iterator<Item = &'a str> + '_ {
        let edges = self.down.get(name).into_iter().flatten();
        edges.filter(|e| e.row.to_kind == NodeKind::Service).map(|e| e.row.to.as_str())
    }

    /// Everything of `set` that `name` reaches over members of `set`, without itself.
    fn reaches(&self, name: &'a str, set: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let (mut seen, mut stack) = (BTreeSet::new(), vec![name]);
        while let Some(at) = stack.pop() {
            for next in self.services_below(at) {
                if set.contains(next) && next != name && seen.insert(next) {
                    stack.push(next);
                }
            }
        }
        seen
    }
}

/// Who is to be looked at first, and the path through it.
pub fn find(scene: &Scene<'_>) -> Blame {
    let graph = Graph::new(scene);
    // Failing services, else those that moved and still do; a change of rate alone blames nobody.
    let bad = |min: u8| -> BTreeSet<&str> {
        let listed = scene.services.iter().filter(|j| {
            let only_rate = !j.off.is_empty()
                && j.off.iter().all(|o| matches!(o.what, What::Rate | What::Silence));
            let level = graph.level(&j.row.service);
            level >= min && (level == 2 || (j.since.is_some() && !only_rate))
        });
        listed.map(|j| j.row.service.as_str()).collect()
    };
    let mut set = bad(2);
    if set.is_empty() {
        set = bad(1);
    }
    // A moved service below a failing one is part of the same trouble.
    let moved = bad(1);
    let below: BTreeSet<&str> = set.iter().flat_map(|s| graph.reaches(s, &moved)).collect();
    set.extend(below);
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        set.iter().map(|s| (*s, graph.reaches(s, &set))).collect();
    let blamed_by = |name: &str| reached.values().filter(|r| r.contains(name)).count();
    let began =
        |name: &str| scene.services.iter().find(|j| j.row.service == name).and_then(|j| j.since);
    // Deepest: reaches no other bad one, but those that reach it back (a cycle has no bottom).
    let deepest = set.iter().copied().filter(|name| {
        reached
            .get(name)
            .into_iter()
            .flatten()
            .all(|below| reached.get(below).is_some_and(|r| r.contains(name)))
    });
    let suspect = deepest.min_by_key(|name| {
        let level = std::cmp::Reverse(graph.level(name));
        (level, std::cmp::Reverse(blamed_by(name)), began(name), *name)
    });
    let Some(suspect) = suspect else { return Blame::default() };
    Blame {
        suspect: Some(suspect.to_owned()),
        path: path(&graph, suspect),
        callees: callees(scene, suspect),
    }
}

fn path(graph: &Graph<'_>, suspect: &str) -> Vec<PathStep> {
    let mut up: Vec<&str> = vec![suspect];
    while up.len() <= CALLERS {
        let Some(at) = up.last().copied() else { break };
        let callers = graph.up.get(at).into_iter().flatten();
        // Whoever calls from outside is everybody: not a step to look at.
        let callers = callers.filter(|e| e.row.from_kind != NodeKind::External);
        let fresh = callers.filter(|e| !up.contains(&e.row.from.as_str()));
        let next = fresh.max_by_key(|e| (graph.level(&e.row.from), e.row.red.requests));
        match next {
            Some(edge) => up.push(&edge.row.from),
            None => break,
        }
    }
    let step = |name: &str| PathStep { name: name.to_owned(), level: graph.level(name) };
    let mut path: Vec<PathStep> = up.iter().rev().map(|name| step(name)).collect();
    let below = graph.down.get(suspect).into_iter().flatten();
    let below = below.filter(|e| !up.contains(&e.row.to.as_str()));
    let kind = |e: &JudgedEdge| e.row.to_kind != NodeKind::Service;
    if let Some(edge) = below.max_by_key(|e| (e.trouble(), kind(e), e.row.red.requests)) {
        let level = graph.level(&edge.row.to).max(if kind(edge) { edge.trouble() } else { 0 });
        path.push(PathStep { name: edge.row.to.clone(), level });
    }
    path
}

fn callees(scene: &Scene<'_>, suspect: &str) -> Vec<usize> {
    let mut below: Vec<usize> = scene
        .edges
        .iter()
        .enumerate()
        .filter(|(_, e)| e.row.from == suspect)
        .map(|(n, _)| n)
        .collect();
    below.sort_by_key(|n| {
        std::cmp::Reverse(scene.edges.get(*n).map(|e| (e.trouble(), e.row.red.requests)))
    });
    below
}
