//! `topology`: who calls whom, and how those calls are.
//!
//! Nodes are services that report themselves and whatever their calls name: databases, queues,
//! others. A service that calls nobody and is called by nobody is a node too. Nothing is drawn that
//! was not seen at one end at least.

use std::collections::BTreeMap;

use coral_model::connections::UNREAD;
use coral_model::filter::{Expr, FieldValue, Fields, Key};
use coral_model::num::f64_from;
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{Connections, EdgeEnds, EdgeRow, NodeKind, NodeRow, Red, Row, State};

use super::answer::{self, Found, Inputs};
use super::case::{Case, Judged};
use super::edges::{EdgeSum, Edges};
use super::group::baseline;
use super::plan::Plan;
use super::rules::{self, Connected, Off, Stretch, What};
use super::shift::{self, Side};
use super::{QueryError, reach, services, timeline};

/// Protocols of which a connection carries one request at a time, so that one in use is taken.
const ONE_AT_A_TIME: [&str; 2] = ["postgresql", "redis"];

/// An edge with what the rules say about it.
#[derive(Debug, Clone)]
pub struct JudgedEdge {
    /// Its number among the edges.
    pub number: usize,
    /// Its row.
    pub row: EdgeRow,
    /// Numbers out of line, worst first.
    pub off: Vec<Off>,
    /// Of most failed requests the callee said nothing: it did not get them, or did not live to tell.
    pub unheard: bool,
}

impl JudgedEdge {
    /// The worst level among what is wrong with the calls themselves: that fewer or more are made is
    /// the caller's doing.
    pub fn trouble(&self) -> u8 {
        let own = self.off.iter().filter(|o| !matches!(o.what, What::Rate | What::Silence));
        own.map(|o| o.level).max().unwrap_or(0)
    }

    /// Whether requests went along it, or ought to have: a connection that only stays open passes no
    /// trouble on.
    pub fn carries(&self) -> bool {
        let before = self.row.baseline.as_ref().and_then(|b| b.red.as_ref());
        let asked = self.row.red.requests > 0 || before.is_some_and(|red| red.requests > 0);
        asked || self.row.connections.is_none() || self.trouble() > 0
    }
}

struct EdgeFields<'a>(&'a EdgeRow);

impl Fields for EdgeFields<'_> {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        let row = self.0;
        let ends = [(&row.from, row.from_kind), (&row.to, row.to_kind)];
        match key {
            Key::Service => {
                let services = ends.iter().filter(|(_, kind)| *kind == NodeKind::Service);
                Some(FieldValue::Many(services.map(|(name, _)| name.as_str().into()).collect()))
            }
            Key::Name => Some(FieldValue::Many(ends.map(|(n, _)| n.as_str().into()).to_vec())),
            Key::Kind => Some(FieldValue::Many(ends.map(|(_, k)| k.word().into()).to_vec())),
            Key::Protocol => row.protocol.as_deref().map(FieldValue::from),
            Key::Error => Some(FieldValue::Bool(row.red.errors > 0)),
            _ => None,
        }
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.0.from);
        visit(&self.0.to);
    }
}

struct NodeFields<'a>(&'a NodeRow);

impl Fields for NodeFields<'_> {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        match key {
            Key::Service if self.0.kind == NodeKind::Service => Some(self.0.name.as_str().into()),
            Key::Name => Some(self.0.name.as_str().into()),
            Key::Kind => Some(self.0.kind.word().into()),
            Key::Error => Some(FieldValue::Bool(self.0.red.as_ref().is_some_and(|r| r.errors > 0))),
            _ => None,
        }
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.0.name);
    }
}

/// Answers the question.
pub fn answer(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let before = plan.compare.unwrap_or_else(|| plan.window.previous());
    let range = Window::new(before.from.min(plan.window.from), plan.window.to.max(before.to));
    // Nodes are judged whole; the filter chooses what is shown of the picture.
    let whole = Plan { filter: Expr::everything(), ..plan.clone() };
    let (mut cells, edges, cut) = answer::requests_and_edges(inputs, &whole, &[range])?;
    let heard = services::heard(inputs, &whole, &mut cells)?;
    let selected = vec![true; cells.series.len()];
    let courses = timeline::courses(&cells, &selected, range, plan.now);
    let case = Case {
        plan: &whole,
        selected: &selected,
        courses: &courses,
        heard: &heard,
        agents: inputs.agents,
    };
    let judged = case.judge(&mut cells, plan.window, before);
    let mut edge_rows = judge(&edges, plan.window, before, plan.now);
    if plan.compare.is_some() {
        compare(&edges, plan.window, before, &mut edge_rows);
    }
    let mut nodes = nodes(&judged, &edge_rows, plan);
    let mut edge_rows: Vec<EdgeRow> = edge_rows.into_iter().map(|e| e.row).collect();
    if let Some(wanted) = &plan.question.reach {
        reach::narrow(wanted, &mut nodes, &mut edge_rows)?;
    }
    edge_rows.retain(|e| plan.filter.matches(&EdgeFields(e)));
    nodes.retain(|n| {
        let end = |e: &EdgeRow| {
            (&e.from, e.from_kind) == (&n.name, n.kind) || (&e.to, e.to_kind) == (&n.name, n.kind)
        };
        plan.filter.matches(&NodeFields(n)) || edge_rows.iter().any(end)
    });
    let newest = cells.newest_in(plan.window, plan.now).max(edges.newest());
    let mut rows: Vec<Row> = nodes.into_iter().map(|n| Row::Node(Box::new(n))).collect();
    rows.extend(edge_rows.into_iter().map(|e| Row::Edge(Box::new(e))));
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    Ok(Found {
        rows,
        truncated,
        newest,
        stored_to: Some(cut.min(plan.window.to)),
        compare: Some(before),
        ..Found::default()
    })
}

fn red(sum: &EdgeSum, seconds: f64) -> Red {
    let histogram = sum.durations.histogram();
    let mut red =
        Red::from_parts(&histogram, sum.errors, sum.no_answer, seconds, sum.evidence, sum.sampled);
    red.requests = sum.requests;
    red.rate = f64_from(sum.requests) / seconds.max(1.0);
    red.error_ratio = (sum.requests > 0).then(|| f64_from(sum.errors) / f64_from(sum.requests));
    red
}

fn stretch(sum: &EdgeSum, seconds: f64) -> Stretch {
    Stretch {
        requests: sum.requests,
        errors: sum.errors,
        no_answer: sum.no_answer,
        histogram: sum.durations.histogram(),
        seconds,
    }
}

/// Share of their time in which connections were in use, where their protocol is read at all.
fn busy_share(sum: &EdgeSum) -> Option<f64> {
    let busy = f64_from(sum.connections.busy_ns) / f64_from(sum.connections.open_ns.max(1));
    (sum.read_ns > 0).then(|| busy.min(1.0))
}

/// How many connections were open at a time, on average.
fn open(sum: &EdgeSum, seconds: f64) -> f64 {
    f64_from(sum.connections.open_ns) / (seconds.max(1.0) * f64_from(SECOND))
}

/// The connections below an edge, as the row shows them.
fn connections(sum: &EdgeSum, seconds: f64) -> Option<Connections> {
    let tally = &sum.connections;
    (!tally.is_empty()).then(|| Connections {
        open: open(sum, seconds),
        busy_share: busy_share(sum),
        opened: tally.opened,
        failed: tally.failed,
        refused: tally.refused,
        reset: tally.reset,
        retransmits: tally.retransmits,
        sent_bytes: tally.sent_bytes,
        received_bytes: tally.received_bytes,
        rtt_ns: tally.rtt_sum_ns.checked_div(tally.rtt_count),
    })
}

/// The same as the rules look at them; `None` where nobody saw any.
fn connected(sum: &EdgeSum, seconds: f64, protocol: Option<&str>) -> Option<Connected> {
    (!sum.connections.is_empty()).then(|| Connected {
        tally: sum.connections,
        requests: sum.requests,
        open: open(sum, seconds),
        busy: busy_share(sum),
        one_at_a_time: protocol.is_some_and(|p| ONE_AT_A_TIME.contains(&p)),
    })
}

/// Every edge with requests or connections in `now`, against `before`, worst first.
pub fn judge(edges: &Edges, now: Window, before: Window, at: Time) -> Vec<JudgedEdge> {
    let (sums, earlier) = (edges.sums(now), edges.sums(before));
    // An edge is observed since its first bucket anywhere in what was read.
    let seconds = |w: Window, first: Time| {
        let end = w.to.min(at.max(w.from));
        f64_from(end.since(w.from.max(first)).max(SECOND)) / 1e9
    };
    // An edge that fell silent is an edge still.
    let numbers: std::collections::BTreeSet<usize> =
        sums.keys().chain(earlier.keys()).copied().collect();
    let mut rows: Vec<JudgedEdge> = numbers
        .iter()
        .filter_map(|number| {
            let edge = edges.edges.get(*number)?;
            let was = earlier.get(number);
            let silent = was.map(EdgeSum::silent);
            let sum = sums.get(number).or(silent.as_ref())?;
            let first = was.map_or(sum.span.0, |w| w.span.0.min(sum.span.0));
            let mut now_red = red(sum, seconds(now, first));
            // Connections that are left of an edge do not change what its requests rested on.
            let asked = was.filter(|w| w.requests > 0 && sum.requests == 0);
            now_red.evidence = asked.map_or(now_red.evidence, |w| w.evidence);
            let then =
                was.map(|w| (red(w, seconds(before, first)), stretch(w, seconds(before, first))));
            let mut off =
                rules::judge(&stretch(sum, seconds(now, first)), then.as_ref().map(|t| &t.1));
            let protocol = edges.symbols.word(edge.protocol);
            if let Some(is) = connected(sum, seconds(now, first), protocol) {
                let was = was.and_then(|w| connected(w, seconds(before, first), protocol));
                off.extend(rules::connects(&is, was.as_ref()));
                off.extend(rules::busy(&is, was.as_ref()));
                rules::sort(&mut off);
            }
            let name = |symbol| edges.symbols.owned(symbol).unwrap_or_default();
            let callee = sum.callee.histogram();
            let row = EdgeRow {
                from: name(edge.from.0),
                from_kind: edge.from.1,
                to: name(edge.to.0),
                to_kind: edge.to.1,
                protocol: edges.symbols.owned(edge.protocol),
                ends: asked.filter(|w| w.ends == EdgeEnds::Both).map_or(sum.ends, |w| w.ends),
                baseline: Some(baseline(before, &now_red, then.map(|t| t.0))),
                red: now_red,
                callee_p99_ns: callee.quantile_ns(0.99),
                connections: connections(sum, seconds(now, first)),
                level: rules::level(&off),
                hop: None,
            };
            let unheard = sum.lone_errors.saturating_mul(2) > sum.errors;
            Some(JudgedEdge { number: *number, row, off, unheard })
        })
        .collect();
    rows.sort_by(|a, b| {
        let key = |e: &JudgedEdge| (e.row.from.clone(), e.row.to.clone(), e.row.protocol.clone());
        b.row.level.cmp(&a.row.level).then_with(|| key(a).cmp(&key(b)))
    });
    rows
}

/// Before and now of every edge, with what chance explains.
fn compare(edges: &Edges, now: Window, before: Window, rows: &mut [JudgedEdge]) {
    let (sums, earlier) = (edges.sums(now), edges.sums(before));
    let side = |sum: Option<&EdgeSum>, red: Option<&Red>| {
        let seconds = red.filter(|r| r.rate > 0.0).map_or(0.0, |r| f64_from(r.requests) / r.rate);
        sum.map_or_else(Side::default, |sum| Side {
            requests: sum.requests,
            errors: sum.errors,
            histogram: sum.durations.histogram(),
            seconds,
        })
    };
    for judged in rows.iter_mut() {
        let row = &mut judged.row;
        let Some(baseline) = &mut row.baseline else { continue };
        let then = side(earlier.get(&judged.number), baseline.red.as_ref());
        baseline.shifts = shift::shifts(&then, &side(sums.get(&judged.number), Some(&row.red)));
    }
    shift::settle(rows.iter_mut().filter_map(|judged| judged.row.baseline.as_mut()));
}

/// Services and what their calls name.
pub fn nodes(judged: &[Judged], edges: &[JudgedEdge], plan: &Plan) -> Vec<NodeRow> {
    let mut nodes: BTreeMap<(String, NodeKind), NodeRow> = BTreeMap::new();
    for service in judged.iter().map(|j| &j.row) {
        nodes.insert(
            (service.service.clone(), NodeKind::Service),
            NodeRow {
                name: service.service.clone(),
                kind: NodeKind::Service,
                system: None,
                state: service.state,
                last_seen: service.last_seen,
                red: service.red.clone(),
                level: service.level,
                hop: None,
            },
        );
    }
    let newest = plan.window.to.min(plan.now);
    for edge in edges.iter().map(|e| &e.row) {
        for (name, kind, callee) in
            [(&edge.from, edge.from_kind, false), (&edge.to, edge.to_kind, true)]
        {
            let other = kind != NodeKind::Service;
            let node = nodes.entry((name.clone(), kind)).or_insert_with(|| NodeRow {
                name: name.clone(),
                kind,
                system: None,
                // A service that is only called, and says nothing itself, is not observed.
                state: if other { State::Active } else { State::NotObserved },
                last_seen: None,
                red: None,
                level: 0,
                hop: None,
            });
            if other && callee {
                let read = || edge.protocol.clone().filter(|protocol| protocol != UNREAD);
                node.system = node.system.take().or_else(read);
                node.last_seen = Some(newest);
                node.level = node.level.max(edge.level);
            }
        }
    }
    let mut nodes: Vec<NodeRow> = nodes.into_values().collect();
    nodes.sort_by(|a, b| {
        b.level.cmp(&a.level).then_with(|| (&a.name, a.kind).cmp(&(&b.name, b.kind)))
    });
    nodes
}
