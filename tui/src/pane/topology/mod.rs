//! Who calls whom: layers where there is room, else an indented tree. No function is lost: every
//! node can be selected in both, and the selected one's edges are spelled out below.

mod lines;
mod plan;

use coral_model::text;
use coral_model::view::{EdgeEnds, EdgeRow, NodeKind, NodeRow};
use ratatui::layout::Rect;

use self::lines::Lines;
use self::plan::Graph;
use super::services::{bangs, numbers};
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::{Role, Theme};
use crate::widget::{Canvas, Piece, Target, error_share, hertz, latency, width_of};

/// Least columns between two layers.
const GAP: u16 = 6;
/// Lines for the selected node's edges.
const FOOT: u16 = 3;

struct Drawn<'a> {
    nodes: Vec<&'a NodeRow>,
    edges: Vec<&'a EdgeRow>,
    graph: Graph,
}

fn gather(app: &App) -> Drawn<'_> {
    let nodes: Vec<&NodeRow> = app.data.nodes().collect();
    let index = |name: &str| nodes.iter().position(|n| n.name == name);
    let mut pairs = Vec::new();
    let mut edges = Vec::new();
    for edge in app.data.edges() {
        if let (Some(from), Some(to)) = (index(&edge.from), index(&edge.to)) {
            pairs.push((from, to));
            edges.push(edge);
        }
    }
    let graph = Graph { nodes: nodes.len(), edges: pairs };
    Drawn { nodes, edges, graph }
}

/// How wide a node is drawn.
fn node_width(node: &NodeRow) -> u16 {
    (width_of(&text::fit(&node.name, 20)) + 2 + 2).clamp(12, 24)
}

/// Whether the layers fit.
fn layered(drawn: &Drawn<'_>, area: Rect) -> Option<(plan::Layers, u16)> {
    let layers = drawn.graph.layers();
    let widths: u16 = layers
        .iter()
        .map(|layer| {
            layer.iter().filter_map(|n| drawn.nodes.get(*n)).map(|n| node_width(n)).max().unwrap_or(12)
        })
        .fold(0, u16::saturating_add);
    let gaps = GAP.saturating_mul(coral_model::num::u16_sat(layers.len().saturating_sub(1)));
    let tallest = coral_model::num::u16_sat(layers.iter().map(Vec::len).max().unwrap_or(0));
    let room = area.height.saturating_sub(FOOT);
    let pitch = if tallest * 3 <= room {
        3
    } else if tallest * 2 <= room {
        2
    } else {
        return None;
    };
    (widths.saturating_add(gaps) <= area.width && layers.len() > 1).then_some((layers, pitch))
}

fn pane_area(app: &App) -> Rect {
    app.frame()
        .panes
        .iter()
        .find(|(pane, _)| *pane == PaneId::Topology)
        .map(|(_, area)| Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..*area })
        .unwrap_or_default()
}

/// Names of nodes in the order they are walked through with up and down.
pub(super) fn order(app: &App) -> Vec<String> {
    let drawn = gather(app);
    let indices: Vec<usize> = match layered(&drawn, pane_area(app)) {
        Some((layers, _)) => layers.into_iter().flatten().collect(),
        None => drawn
            .graph
            .tree()
            .into_iter()
            .filter(|(_, _, again)| !again)
            .map(|(n, _, _)| n)
            .collect(),
    };
    indices.into_iter().filter_map(|n| drawn.nodes.get(n)).map(|n| n.name.clone()).collect()
}

/// The busiest neighbour on one side of the selected node.
pub(super) fn beside(app: &App, right: bool) -> Option<String> {
    let name = app.selected_key(PaneId::Topology)?;
    app.data
        .edges()
        .filter(|e| if right { e.from == name } else { e.to == name })
        .max_by_key(|e| (e.level, e.red.requests))
        .map(|e| if right { e.to.clone() } else { e.from.clone() })
}

/// The shape beside the colour of what a node is.
fn shape(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Service => "●",
        NodeKind::Database => "◆",
        NodeKind::Queue => "■",
        NodeKind::External => "○",
    }
}

fn label(node: &NodeRow) -> String {
    format!("{} {}{}", shape(node.kind), text::fit(&node.name, 20), bangs(node.level))
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let drawn = gather(app);
    let selected = app.selected_key(PaneId::Topology).map(str::to_owned);
    match layered(&drawn, area) {
        Some((layers, pitch)) => {
            let body = Rect { height: area.height.saturating_sub(FOOT), ..area };
            layers_drawn(app, canvas, body, &drawn, &layers, pitch, selected.as_deref(), focused);
            let foot = Rect { y: body.bottom(), height: area.height - body.height, ..area };
            edges_of(canvas, foot, &drawn, selected.as_deref());
        }
        None => tree(app, canvas, area, &drawn, selected.as_deref(), focused),
    }
}

/// Rate, errors, p99 of a node in one piece.
fn summary(canvas: &Canvas<'_>, node: &NodeRow) -> Vec<Piece> {
    if node.kind != NodeKind::Service {
        let what = node.system.clone().unwrap_or_else(|| node.kind.to_string());
        return vec![canvas.piece(Role::Dim, what)];
    }
    let [rate, errors, p99] = numbers(canvas, node.state, node.red.as_ref(), node.level);
    let gap = || canvas.piece(Role::Dim, " ");
    vec![rate, gap(), errors, gap(), p99]
}

#[expect(clippy::too_many_arguments, reason = "one drawing, one place")]
fn layers_drawn(
    app: &App,
    canvas: &mut Canvas<'_>,
    area: Rect,
    drawn: &Drawn<'_>,
    layers: &plan::Layers,
    pitch: u16,
    selected: Option<&str>,
    focused: bool,
) {
    let widths: Vec<u16> = layers
        .iter()
        .map(|layer| {
            layer.iter().filter_map(|n| drawn.nodes.get(*n)).map(|n| node_width(n)).max().unwrap_or(12)
        })
        .collect();
    let gaps = coral_model::num::u16_sat(layers.len().saturating_sub(1)).max(1);
    let used: u16 = widths.iter().copied().fold(0, u16::saturating_add);
    let gap = (area.width.saturating_sub(used) / gaps).clamp(GAP, 26);
    // x, y of every node.
    let mut places: Vec<Option<Rect>> = vec![None; drawn.nodes.len()];
    let mut x = area.x;
    for (layer, width) in layers.iter().zip(&widths) {
        let n = coral_model::num::u16_sat(layer.len());
        let top = area.y + area.height.saturating_sub(n * pitch - pitch.saturating_sub(2)) / 2;
        for (i, node) in layer.iter().enumerate() {
            let y = top + coral_model::num::u16_sat(i) * pitch;
            if let Some(slot) = places.get_mut(*node) {
                *slot = Some(Rect { x, y, width: *width, height: 2 });
            }
        }
        x = x.saturating_add(width + gap);
    }
    let mut lines = Lines::new(area);
    // Calm lines first, so that what fails is drawn over them.
    let mut edges: Vec<(usize, usize, &EdgeRow)> = drawn
        .graph
        .edges
        .iter()
        .zip(&drawn.edges)
        .map(|((a, b), edge)| (*a, *b, *edge))
        .collect();
    let touches = |edge: &EdgeRow| selected.is_some_and(|s| edge.from == s || edge.to == s);
    edges.sort_by_key(|(_, _, edge)| (edge.level, touches(edge)));
    for (a, b, edge) in &edges {
        let (Some(Some(from)), Some(Some(to))) = (places.get(*a), places.get(*b)) else { continue };
        let role = match edge.level {
            0 if touches(edge) => Role::Accent,
            0 => Role::Rule,
            level => Theme::level(level),
        };
        lines.edge(*from, *to, gap, *a, role);
    }
    lines.draw(canvas, edges.iter().map(|(_, b, _)| *b).filter_map(|b| places.get(b).copied().flatten()));
    // What an edge carries stands on its last stretch, where there is room for it.
    for (_, b, edge) in &edges {
        let Some(Some(to)) = places.get(*b) else { continue };
        let several = drawn.edges.iter().filter(|e| e.to == edge.to).count() > 1;
        let room = gap.saturating_sub(8);
        let said = format!("{} {}", hertz(edge.red.rate), latency(edge.red.p99_ns));
        if !several && room >= width_of(&said) && edge.ends == EdgeEnds::One {
            let role = if edge.level > 0 { Theme::level(edge.level) } else { Role::Dim };
            canvas.say(to.x.saturating_sub(width_of(&said) + 2), to.y, room, &said, role);
        }
    }
    for (i, node) in drawn.nodes.iter().enumerate() {
        let Some(Some(place)) = places.get(i).copied() else { continue };
        if place.y >= area.bottom() {
            continue;
        }
        let role = if node.level > 0 { Theme::level(node.level) } else { Role::Strong };
        let text = label(node);
        canvas.say(place.x, place.y, place.width, &text, role);
        if place.y + 1 < area.bottom() {
            let pieces = summary(canvas, node);
            canvas.line(place.x + 2, place.y + 1, place.width.max(18) - 2, &pieces);
        }
        if let Some(row) = app.node_order().iter().position(|n| *n == node.name) {
            canvas.hit(place, Target::Row(PaneId::Topology, row));
        }
        if selected == Some(node.name.as_str()) {
            let style = canvas.style(if focused { Role::Selected } else { Role::Marked });
            let wide = width_of(&text).min(place.width);
            canvas.tint(Rect { height: 1, width: wide, ..place }, style);
        }
    }
}

/// An edge as a sentence.
fn told(canvas: &Canvas<'_>, edge: &EdgeRow, name: &str) -> Vec<Piece> {
    let mut pieces = vec![
        canvas.piece(Theme::level(edge.level), format!("{name}{} ", bangs(edge.level))),
        canvas.piece(
            Role::Dim,
            format!(
                "{} {} {}",
                hertz(edge.red.rate),
                edge.red.error_ratio.map_or_else(|| "–".into(), error_share),
                latency(edge.red.p99_ns)
            ),
        ),
    ];
    if let (Some(caller), Some(callee)) = (edge.red.p99_ns, edge.callee_p99_ns) {
        let way = caller.saturating_sub(callee);
        if way > callee / 5 && way > 1_000_000 {
            pieces.push(canvas.piece(Role::Moved, format!(" (+{} on the way)", text::duration(way))));
        }
    }
    if edge.ends == EdgeEnds::One {
        pieces.push(canvas.piece(Role::Dim, " one end"));
    }
    pieces
}

/// Callers and callees of the selected node, spelled out.
fn edges_of(canvas: &mut Canvas<'_>, area: Rect, drawn: &Drawn<'_>, selected: Option<&str>) {
    if area.height < 2 {
        return;
    }
    let Some(name) = selected else {
        let text = "● service  ◆ database  ■ queue  ○ outside · select a node to read its edges";
        canvas.say(area.x, area.bottom() - 1, area.width, text, Role::Dim);
        return;
    };
    let list = |incoming: bool| -> Vec<&&EdgeRow> {
        drawn.edges.iter().filter(|e| if incoming { e.to == name } else { e.from == name }).collect()
    };
    for (y, (word, edges, incoming)) in
        (area.bottom() - 2..area.bottom()).zip([("called by ", list(true), true), ("calls     ", list(false), false)])
    {
        let mut x = canvas.say(area.x, y, area.width, word, Role::Title);
        if edges.is_empty() {
            canvas.say(x, y, area.right().saturating_sub(x), "nobody seen", Role::Dim);
        }
        for (i, edge) in edges.iter().enumerate() {
            if i > 0 {
                x = canvas.say(x, y, area.right().saturating_sub(x), " · ", Role::Dim);
            }
            let pieces = told(canvas, edge, if incoming { &edge.from } else { &edge.to });
            x = canvas.line(x, y, area.right().saturating_sub(x), &pieces);
        }
    }
}

fn tree(
    app: &App,
    canvas: &mut Canvas<'_>,
    area: Rect,
    drawn: &Drawn<'_>,
    selected: Option<&str>,
    focused: bool,
) {
    let rows = drawn.graph.tree();
    let foot = if area.height >= 9 { 2 } else { 0 };
    let body = Rect { height: area.height - foot, ..area };
    let at = selected.and_then(|s| {
        rows.iter().position(|(n, _, again)| !again && drawn.nodes.get(*n).is_some_and(|n| n.name == s))
    });
    let offset =
        app.with_scroll(PaneId::Topology, |s| s.follow(at, rows.len(), usize::from(body.height)));
    for (y, (i, (n, depth, again))) in (body.y..body.bottom()).zip(rows.iter().enumerate().skip(offset)) {
        let Some(node) = drawn.nodes.get(*n) else { continue };
        let depth = coral_model::num::u16_sat(*depth).min(8);
        let mut x = area.x;
        if depth > 0 {
            x = canvas.say(x + (depth - 1) * 2, y, 2, "└ ", Role::Rule);
        }
        let role = match node.level {
            _ if *again => Role::Dim,
            0 => Role::Strong,
            level => Theme::level(level),
        };
        let end = area.right();
        x = canvas.say(x, y, end.saturating_sub(x), &label(node), role);
        if *again {
            canvas.say(x + 1, y, end.saturating_sub(x + 1), "(above)", Role::Dim);
        } else {
            let pieces = summary(canvas, node);
            let wide: u16 = pieces.iter().map(|p| width_of(&p.text)).sum();
            let column = (area.x + area.width / 2).max(x + 2);
            let start = column.min(end.saturating_sub(wide));
            if start > x {
                canvas.line(start, y, end.saturating_sub(start), &pieces);
            }
            if let Some(row) = app.node_order().iter().position(|n| *n == node.name) {
                canvas.hit(Rect { x: area.x, y, width: area.width, height: 1 }, Target::Row(PaneId::Topology, row));
            }
        }
        if at == Some(i) {
            let style = canvas.style(if focused { Role::Selected } else { Role::Marked });
            canvas.tint(Rect { x: area.x, y, width: area.width, height: 1 }, style);
        }
    }
    if foot > 0 {
        edges_of(canvas, Rect { y: body.bottom(), height: foot, ..area }, drawn, selected);
    }
}
