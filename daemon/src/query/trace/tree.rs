//! Which span stands below which.
//!
//! Span ids come from many programs, so the tree is built defensively: a span whose parent has not
//! arrived begins a tree of its own, a cycle is cut at its earliest span, a span exported twice counts
//! once, and nothing recurses, however deep the chain.
//!
//! Spans that agents made of what the kernel saw know only what the request says of its trace. Who serves
//! names the span of who asks as well ([`CALLER`]), which is there if somebody saw that end too: then it
//! stands above, unless what it asked is something else: then their agents have counted a connection's requests
//! differently.

use coral_model::SpanId;
use coral_model::view::{CALLER, SpanKind};
use hashbrown::{HashMap, HashSet};

use super::Stored;

/// Spans as trees.
#[derive(Debug, Default)]
pub struct Tree {
    /// The span above each; `None` at the top of a tree, also where a cycle was cut.
    pub above: Vec<Option<usize>>,
    /// The spans below each, by start.
    pub below: Vec<Vec<usize>>,
    /// Depth first: which span, and how deep.
    pub placed: Vec<(usize, u32)>,
}

/// A span that was exported twice is one span.
pub fn without_repeats(spans: Vec<Stored>) -> Vec<Stored> {
    let mut seen = HashSet::new();
    spans
        .into_iter()
        .filter(|s| {
            seen.insert((s.row.span_id, s.row.start, s.row.duration_ns, s.resource, s.row.kind))
        })
        .collect()
}

/// The span of who asked, as an agent's own span of who serves names it.
fn caller(span: &Stored) -> Option<SpanId> {
    span.row.attributes.get(CALLER)?.parse().ok()
}

/// Both ends of a request that the kernel saw, one below the other.
pub fn joined(mut spans: Vec<Stored>) -> Vec<Stored> {
    let callers: HashSet<SpanId> = spans.iter().filter_map(caller).collect();
    if callers.is_empty() {
        return spans;
    }
    let asks =
        |span: &&Stored| span.row.kind == SpanKind::Client && callers.contains(&span.row.span_id);
    let mut asked: HashMap<SpanId, HashSet<String>> = HashMap::new();
    for span in spans.iter().filter(asks) {
        asked.entry(span.row.span_id).or_default().insert(span.row.operation.clone());
    }
    for span in &mut spans {
        let same = |id: &SpanId| asked.get(id).is_some_and(|of| of.contains(&span.row.operation));
        if let Some(id) = caller(span).filter(same) {
            span.row.parent_id = Some(id);
        }
    }
    spans
}

/// The trees of spans that are in order of their start.
pub fn grow(spans: &[Stored]) -> Tree {
    let parents = parents(spans);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    for (child, parent) in parents.iter().enumerate() {
        if let Some(list) = parent.and_then(|p| children.get_mut(p)) {
            list.push(child);
        }
    }
    let mut tree = Tree { above: vec![None; spans.len()], ..Tree::default() };
    // Roots and orphans first; what no root reaches is a cycle, entered at its earliest span.
    let mut visited = vec![false; spans.len()];
    let rootless = parents.iter().enumerate().filter(|(_, p)| p.is_none()).map(|(i, _)| i);
    for root in rootless.chain(0..spans.len()) {
        let mut stack = vec![(root, None, 0u32)];
        while let Some((at, above, depth)) = stack.pop() {
            match visited.get_mut(at) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            if let Some(slot) = tree.above.get_mut(at) {
                *slot = above;
            }
            tree.placed.push((at, depth));
            let below = children.get(at).into_iter().flatten().rev();
            stack.extend(below.map(|&child| (child, Some(at), depth.saturating_add(1))));
        }
    }
    tree.below = vec![Vec::new(); spans.len()];
    for (child, above) in tree.above.iter().enumerate() {
        if let Some(list) = above.and_then(|p| tree.below.get_mut(p)) {
            list.push(child);
        }
    }
    tree
}

/// The place of each span's parent. Where two spans share an id (both ends of a call, in older
/// tracers), the one of the child's own service is its parent.
fn parents(spans: &[Stored]) -> Vec<Option<usize>> {
    let mut by_id: HashMap<SpanId, Vec<usize>> = HashMap::with_capacity(spans.len());
    for (at, span) in spans.iter().enumerate() {
        by_id.entry(span.row.span_id).or_default().push(at);
    }
    let find = |(at, span): (usize, &Stored)| {
        let candidates = by_id.get(&span.row.parent_id?)?;
        let others = || candidates.iter().copied().filter(|&c| c != at);
        let near =
            others().find(|&c| spans.get(c).is_some_and(|p| p.row.service == span.row.service));
        near.or_else(|| others().next())
    };
    spans.iter().enumerate().map(find).collect()
}
