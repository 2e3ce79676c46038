//! Where nodes stand: callers left, callees right.
//!
//! Layers by longest path after the edges that close a circle are left out (Sugiyama's first two
//! steps); inside a layer, nodes stand where their neighbours are. Pure and deterministic: the same
//! graph always looks the same.

use std::collections::{BTreeMap, BTreeSet};

/// A graph by indices.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// Number of nodes.
    pub nodes: usize,
    /// Caller and callee.
    pub edges: Vec<(usize, usize)>,
}

/// Layers, each a list of nodes from top to bottom. Numbers past the graph's nodes are places
/// where an edge passes through a layer.
pub(super) type Layers = Vec<Vec<usize>>;

/// Layers, and how each edge runs through them.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Layers.
    pub layers: Layers,
    /// For each edge of the graph its stops, callers first; empty where it leads back.
    pub ways: Vec<Vec<usize>>,
}

impl Graph {
    fn callees(&self) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new(); self.nodes];
        for &(from, to) in &self.edges {
            if let Some(list) = out.get_mut(from)
                && from != to
            {
                list.push(to);
            }
        }
        out
    }

    /// Edges that do not lead back to where the walk came from.
    fn forward(&self) -> Vec<(usize, usize)> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let callees = self.callees();
        let mut incoming = vec![0_usize; self.nodes];
        for &(from, to) in &self.edges {
            if let Some(n) = incoming.get_mut(to)
                && from != to
            {
                *n += 1;
            }
        }
        let mut starts: Vec<usize> = (0..self.nodes).collect();
        starts.sort_by_key(|n| incoming.get(*n).copied().unwrap_or(0));
        let mut marks = vec![Mark::New; self.nodes];
        let mut kept = Vec::new();
        for start in starts {
            if marks.get(start) != Some(&Mark::New) {
                continue;
            }
            let mut stack = vec![(start, 0_usize)];
            if let Some(m) = marks.get_mut(start) {
                *m = Mark::Open;
            }
            while let Some((node, next)) = stack.pop() {
                let Some(&to) = callees.get(node).and_then(|c| c.get(next)) else {
                    if let Some(m) = marks.get_mut(node) {
                        *m = Mark::Done;
                    }
                    continue;
                };
                stack.push((node, next + 1));
                match marks.get(to) {
                    Some(Mark::Open) => {}
                    Some(Mark::New) => {
                        kept.push((node, to));
                        if let Some(m) = marks.get_mut(to) {
                            *m = Mark::Open;
                        }
                        stack.push((to, 0));
                    }
                    _ => kept.push((node, to)),
                }
            }
        }
        kept
    }

    /// Steps from a node without callers, the longest way.
    fn depths(&self, edges: &[(usize, usize)]) -> Vec<usize> {
        let mut depth = vec![0_usize; self.nodes];
        // Acyclic: at most `nodes` rounds.
        for _ in 0..self.nodes {
            let mut changed = false;
            for &(from, to) in edges {
                let d = depth.get(from).copied().unwrap_or(0) + 1;
                if let Some(slot) = depth.get_mut(to).filter(|slot| **slot < d) {
                    *slot = d;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        depth
    }

    /// The layers, and the ways through them.
    pub(super) fn plan(&self) -> Plan {
        if self.nodes == 0 {
            return Plan::default();
        }
        let depth = self.depths(&self.forward());
        let deepest = depth.iter().copied().max().unwrap_or(0);
        let mut layers: Layers = vec![Vec::new(); deepest + 1];
        for (node, d) in depth.iter().enumerate() {
            if let Some(layer) = layers.get_mut(*d) {
                layer.push(node);
            }
        }
        let mut next = self.nodes;
        let mut ways = Vec::new();
        let mut neighbours: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for &(from, to) in &self.edges {
            let of = |n: usize| depth.get(n).copied().unwrap_or(0);
            if of(to) <= of(from) {
                ways.push(Vec::new());
                continue;
            }
            let mut way = vec![from];
            for d in of(from) + 1..of(to) {
                if let Some(layer) = layers.get_mut(d) {
                    layer.push(next);
                }
                way.push(next);
                next += 1;
            }
            way.push(to);
            for pair in way.windows(2) {
                if let [a, b] = pair {
                    neighbours.entry(*a).or_default().insert(*b);
                    neighbours.entry(*b).or_default().insert(*a);
                }
            }
            ways.push(way);
        }
        for sweep in 0..6 {
            let mut order: Vec<usize> = (0..layers.len()).collect();
            if sweep % 2 == 1 {
                order.reverse();
            }
            for l in order {
                let place: BTreeMap<usize, usize> = layers
                    .iter()
                    .flat_map(|layer| {
                        let n = layer.len().max(1);
                        layer
                            .iter()
                            .enumerate()
                            .map(move |(i, node)| (*node, (2 * i + 1) * 1000 / n))
                    })
                    .collect();
                let center = |node: &usize| {
                    let near: Vec<usize> = neighbours
                        .get(node)
                        .into_iter()
                        .flatten()
                        .filter_map(|n| place.get(n).copied())
                        .collect();
                    match near.len() {
                        0 => place.get(node).copied().unwrap_or(0),
                        n => near.iter().sum::<usize>() / n,
                    }
                };
                if let Some(layer) = layers.get_mut(l) {
                    layer.sort_by_cached_key(|n| (center(n), *n));
                }
            }
        }
        Plan { layers, ways }
    }

    /// Depth-first, callers before callees: `(node, depth, seen before)`.
    pub(super) fn tree(&self) -> Vec<(usize, usize, bool)> {
        let callees = self.callees();
        let called: BTreeSet<usize> =
            self.edges.iter().filter(|(a, b)| a != b).map(|(_, b)| *b).collect();
        let mut starts: Vec<usize> = (0..self.nodes).filter(|n| !called.contains(n)).collect();
        starts.extend((0..self.nodes).filter(|n| called.contains(n)));
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        for start in starts {
            if seen.contains(&start) {
                continue;
            }
            let mut stack = vec![(start, 0)];
            while let Some((node, depth)) = stack.pop() {
                let again = !seen.insert(node);
                rows.push((node, depth, again));
                if !again {
                    for to in callees.get(node).into_iter().flatten().rev() {
                        stack.push((*to, depth + 1));
                    }
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn callers_stand_left_of_callees_even_around_a_circle() {
        let graph = Graph { nodes: 4, edges: vec![(0, 1), (1, 2), (2, 1), (1, 3), (0, 3)] };
        let plan = graph.plan();
        let real: Vec<Vec<usize>> = plan
            .layers
            .iter()
            .map(|l| {
                let mut l: Vec<usize> = l.iter().copied().filter(|n| *n < 4).collect();
                l.sort_unstable();
                l
            })
            .collect();
        assert_eq!(real, [vec![0], vec![1], vec![2, 3]]);
        // 0 → 3 passes through the layer between; 2 → 1 leads back.
        assert_eq!(plan.ways, [vec![0, 1], vec![1, 2], vec![], vec![1, 3], vec![0, 4, 3]]);
        let tree = graph.tree();
        assert_eq!(tree.first(), Some(&(0, 0, false)));
        assert!(tree.iter().any(|(_, _, again)| *again));
    }

    proptest! {
        #[test]
        fn every_node_stands_exactly_once(edges in prop::collection::vec((0..12usize, 0..12usize), 0..40)) {
            let graph = Graph { nodes: 12, edges };
            let mut all: Vec<usize> =
                graph.plan().layers.into_iter().flatten().filter(|n| *n < 12).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..12).collect::<Vec<_>>());
            let mut walked: Vec<usize> =
                graph.tree().into_iter().filter(|(_, _, again)| !again).map(|(n, _, _)| n).collect();
            walked.sort_unstable();
            prop_assert_eq!(walked, (0..12).collect::<Vec<_>>());
        }
    }
}
