//! What a node can reach: who calls it, and whom it calls, directly and through others.
//!
//! Hops are counted along observed calls, the shortest way; a node that is reached both ways has the
//! shorter one. Every edge on the way is there with its own evidence and numbers: that A calls B and B
//! calls C does not say that one request went all the way, only a trace does.

use std::collections::{BTreeMap, VecDeque};

use coral_model::filter::nearest;
use coral_model::question::{Direction, Reach};
use coral_model::view::{EdgeRow, NodeKind, NodeRow};

use super::QueryError;

/// A node: its name and what it is.
type Node<'a> = (&'a str, NodeKind);

/// Calls away, by node.
type Hops<'a> = BTreeMap<Node<'a>, u32>;

fn ends(edge: &EdgeRow) -> (Node<'_>, Node<'_>) {
    ((edge.from.as_str(), edge.from_kind), (edge.to.as_str(), edge.to_kind))
}

/// Everything reached from `starts` one way, at most `depth` calls away.
fn walk<'a>(starts: &[Node<'a>], edges: &'a [EdgeRow], depth: u32, upstream: bool) -> Hops<'a> {
    let mut next: BTreeMap<Node<'_>, Vec<Node<'a>>> = BTreeMap::new();
    for edge in edges {
        let (from, to) = ends(edge);
        let (here, there) = if upstream { (to, from) } else { (from, to) };
        next.entry(here).or_default().push(there);
    }
    let mut hops: Hops<'a> = starts.iter().map(|node| (*node, 0)).collect();
    let mut open: VecDeque<Node<'a>> = starts.iter().copied().collect();
    while let Some(node) = open.pop_front() {
        let hop = hops.get(&node).copied().unwrap_or(0);
        if hop >= depth {
            continue;
        }
        for there in next.get(&node).into_iter().flatten() {
            if !hops.contains_key(there) {
                hops.insert(*there, hop + 1);
                open.push_back(*there);
            }
        }
    }
    hops
}

fn away<'a>(hops: &Hops<'a>, node: Node<'a>) -> Option<u32> {
    hops.get(&node).copied()
}

/// The shorter way; downstream where both are as long.
fn signed(down: Option<u32>, up: Option<u32>) -> Option<i32> {
    let positive = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    match (down, up) {
        (Some(down), Some(up)) if up < down => Some(-positive(up)),
        (Some(down), _) => Some(positive(down)),
        (None, up) => up.map(|up| -positive(up)),
    }
}

/// Keeps what is reached, and says how many calls away it is, the nearest first.
///
/// # Errors
/// There is no such node.
pub fn narrow(
    reach: &Reach,
    nodes: &mut Vec<NodeRow>,
    edges: &mut Vec<EdgeRow>,
) -> Result<(), QueryError> {
    let named = nodes.iter().filter(|n| n.name == reach.of);
    let starts: Vec<Node<'_>> = named.map(|n| (reach.of.as_str(), n.kind)).collect();
    if starts.is_empty() {
        let near = nearest(&reach.of, nodes.iter().map(|n| n.name.as_str()));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(QueryError::Nothing(format!(
            "there is no `{}` in the topology of this time{near}",
            coral_model::text::fit(&reach.of, 80)
        )));
    }
    let depth = reach.depth.unwrap_or(u32::MAX);
    let whole = edges.clone();
    let way = |wanted: bool, upstream| match wanted {
        true => walk(&starts, &whole, depth, upstream),
        false => Hops::new(),
    };
    let down = way(reach.direction != Direction::Upstream, false);
    let up = way(reach.direction != Direction::Downstream, true);
    // An edge belongs to the reach when its nearer end is reached with a call to spare.
    let beyond = |hop: Option<u32>| hop.filter(|n| *n < depth).map(|n| n + 1);
    edges.retain_mut(|edge| {
        let (from, to) = ends(edge);
        let hop = signed(beyond(away(&down, from)), beyond(away(&up, to)));
        edge.hop = hop;
        hop.is_some()
    });
    let hops: Vec<Option<i32>> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node.kind))
        .map(|node| signed(away(&down, node), away(&up, node)))
        .collect();
    for (node, hop) in nodes.iter_mut().zip(hops) {
        node.hop = hop;
    }
    nodes.retain(|node| node.hop.is_some());
    // Stable: within a hop the worst stays first.
    edges.sort_by_key(|edge| edge.hop.map(i32::unsigned_abs));
    nodes.sort_by_key(|node| node.hop.map(i32::unsigned_abs));
    Ok(())
}

#[cfg(test)]
mod tests {
    use coral_model::question::View;
    use coral_model::view::{Row, State};
    use proptest::prelude::*;

    use super::super::fixture::{self, Fixture, ago, last, question};
    use super::*;

    fn shop() -> Fixture {
        let fixture = Fixture::default();
        let calls = [
            ("gateway", "checkout"),
            ("gateway", "cart"),
            ("checkout", "payments"),
            ("payments", "postgres"),
            ("cart", "redis"),
            // And back.
            ("payments", "gateway"),
        ];
        let edges: Vec<_> =
            calls.iter().map(|(a, b)| fixture::EdgeRow::new(ago(60), a, b, &[5; 20])).collect();
        fixture.edges(&edges);
        fixture
    }

    /// Names and how many calls away they are.
    type Hops = Vec<(String, i32)>;

    fn reached(direction: Direction, depth: Option<u32>) -> (Hops, Hops) {
        let mut q = question(View::Topology, last(900), "");
        q.reach = Some(Reach { of: "checkout".into(), direction, depth });
        let rows = shop().ask(&q).unwrap().rows;
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Node(n) => nodes.push((n.name, n.hop.unwrap())),
                Row::Edge(e) => edges.push((format!("{}>{}", e.from, e.to), e.hop.unwrap())),
                other => panic!("{other:?}"),
            }
        }
        nodes.sort_by_key(|(name, hop)| (hop.unsigned_abs(), name.clone()));
        edges.sort_by_key(|(name, hop)| (hop.unsigned_abs(), name.clone()));
        (nodes, edges)
    }

    fn pairs(text: &[(&str, i32)]) -> Vec<(String, i32)> {
        text.iter().map(|(name, hop)| ((*name).to_owned(), *hop)).collect()
    }

    #[test]
    fn reach_is_counted_in_calls_either_way() {
        let (nodes, edges) = reached(Direction::Downstream, Some(2));
        assert_eq!(
            nodes,
            pairs(&[("checkout", 0), ("payments", 1), ("gateway", 2), ("postgres", 2)])
        );
        assert_eq!(
            edges,
            pairs(&[("checkout>payments", 1), ("payments>gateway", 2), ("payments>postgres", 2)])
        );
        let (nodes, _) = reached(Direction::Upstream, None);
        assert_eq!(nodes, pairs(&[("checkout", 0), ("gateway", -1), ("payments", -2)]));
        // Both ways: the shorter one counts.
        let (nodes, _) = reached(Direction::Both, Some(1));
        assert_eq!(nodes, pairs(&[("checkout", 0), ("gateway", -1), ("payments", 1)]));
        let (nodes, edges) = reached(Direction::Both, None);
        assert_eq!((nodes.len(), edges.len()), (6, 6));
    }

    #[test]
    fn who_is_not_there_is_said_to_be() {
        let mut q = question(View::Topology, last(900), "");
        q.reach = Some(Reach { of: "chekout".into(), direction: Direction::Both, depth: None });
        let none = shop().ask(&q).unwrap();
        assert!(none.rows.is_empty() && none.end.blind[0].contains("did you mean `checkout`"));
    }

    fn edge(from: usize, to: usize) -> EdgeRow {
        let red = coral_model::view::Red::from_parts(
            &coral_model::Histogram::default(),
            0,
            0,
            1.0,
            coral_model::view::Evidence::Otlp,
            false,
        );
        EdgeRow {
            from: from.to_string(),
            from_kind: NodeKind::Service,
            to: to.to_string(),
            to_kind: NodeKind::Service,
            protocol: None,
            ends: coral_model::view::EdgeEnds::Both,
            red,
            callee_p99_ns: None,
            connections: None,
            baseline: None,
            level: 0,
            hop: None,
        }
    }

    proptest! {
        /// Against shortest ways counted by relaxing every edge again and again.
        #[test]
        fn hops_are_shortest_ways(calls in prop::collection::vec((0usize..8, 0usize..8), 0..20), depth in 0u32..9) {
            let mut edges: Vec<EdgeRow> = calls.iter().map(|(a, b)| edge(*a, *b)).collect();
            let mut nodes: Vec<NodeRow> = (0..8)
                .map(|n: usize| NodeRow {
                    name: n.to_string(),
                    kind: NodeKind::Service,
                    system: None,
                    state: State::Active,
                    last_seen: None,
                    red: None,
                    level: 0,
                    hop: None,
                })
                .collect();
            let mut far = [[u32::MAX; 8]; 2];
            far[0][0] = 0;
            far[1][0] = 0;
            for _ in 0..8 {
                for (a, b) in &calls {
                    far[0][*b] = far[0][*b].min(far[0][*a].saturating_add(1));
                    far[1][*a] = far[1][*a].min(far[1][*b].saturating_add(1));
                }
            }
            let reach = Reach { of: "0".into(), direction: Direction::Both, depth: Some(depth) };
            narrow(&reach, &mut nodes, &mut edges).unwrap();
            for (n, (down, up)) in far[0].iter().zip(&far[1]).enumerate() {
                let known = |d: &u32| Some(*d).filter(|d| *d <= depth);
                let want = signed(known(down), known(up));
                let got = nodes.iter().find(|node| node.name == n.to_string()).and_then(|n| n.hop);
                prop_assert_eq!(got, want, "node {}", n);
            }
            let kept = calls.iter().filter(|(a, b)| far[0][*a] < depth || far[1][*b] < depth).count();
            prop_assert_eq!(edges.len(), kept);
        }
    }
}
