//! Who calls whom: layers where there is room, else an indented tree. No function is lost: every
//! node can be selected in both, and the selected one's edges are spelled out below.

mod lines;
mod plan;

use coral_model::text;
use coral_model::view::{EdgeEnds, EdgeRow, NodeKind, NodeRow};
use ratatui::layout::Rect;

use self::lines::Lines;
use self::plan::{Graph, Plan};
use super::services::{bangs, numbers};
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::{Role, Theme};
use crate::widget::{Canvas, Piece, Target, connections, error_share, hertz, latency, width_of};

/// Least columns between two layers.
const GAP: u16 = 5;
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

/// How wide a node is drawn: its name, or its numbers below.
fn node_width(node: &NodeRow) -> u16 {
    let numbers = match (&node.red, node.kind) {
        (Some(red), NodeKind::Service) => {
            width_of(&hertz(red.rate))
                + width_of(&error_share(red.error_ratio.unwrap_or(0.0)))
                + width_of(&latency(red.p99_ns))
                + 4
        }
        _ => 12,
    };
    (width_of(&text::fit(&node.name, 20)) + 2 + u16::from(node.level.min(2)))
        .max(numbers)
        .clamp(12, 24)
}

/// Widest node of a layer.
fn layer_width(drawn: &Drawn<'_>, layer: &[usize]) -> u16 {
    layer.iter().filter_map(|n| drawn.nodes.get(*n)).map(|n| node_width(n)).max().unwrap_or(12)
}

/// Lines a layer takes with `pitch` lines per node and one per edge that passes through.
fn layer_height(drawn: &Drawn<'_>, layer: &[usize], pitch: u16) -> u16 {
    layer
        .iter()
        .map(|n| if *n < drawn.nodes.len() { pitch } else { 1 })
        .fold(0, u16::saturating_add)
}

/// The plan and its pitch, where it fits.
fn layered(drawn: &Drawn<'_>, area: Rect) -> Option<(Plan, u16)> {
    let plan = drawn.graph.plan();
    let layers = &plan.layers;
    let widths: u16 =
        layers.iter().map(|layer| layer_width(drawn, layer)).fold(0, u16::saturating_add);
    let gaps = GAP.saturating_mul(coral_model::num::u16_sat(layers.len().saturating_sub(1)));
    let room = area.height.saturating_sub(FOOT);
    let tallest = |pitch| layers.iter().map(|l| layer_height(drawn, l, pitch)).max().unwrap_or(0);
    let pitch = (2..=5).rev().find(|pitch| tallest(*pitch) <= room)?;
    (widths.saturating_add(gaps) <= area.width && layers.len() > 1).then_some((plan, pitch))
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
        Some((plan, _)) => plan.layers.into_iter().flatten().collect(),
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
        Some((plan, pitch)) => {
            let body = Rect { height: area.height.saturating_sub(FOOT), ..area };
            layers_drawn(canvas, body, &drawn, &plan, pitch, selected.as_deref(), focused);
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

fn layers_drawn(
    canvas: &mut Canvas<'_>,
    area: Rect,
    drawn: &Drawn<'_>,
    plan: &Plan,
    pitch: u16,
    selected: Option<&str>,
    focused: bool,
) {
    let layers = &plan.layers;
    let widths: Vec<u16> = layers.iter().map(|layer| layer_width(drawn, layer)).collect();
    let gaps = coral_model::num::u16_sat(layers.len().saturating_sub(1)).max(1);
    let used: u16 = widths.iter().copied().fold(0, u16::saturating_add);
    let gap = (area.width.saturating_sub(used) / gaps).clamp(GAP, 26);
    // Where every node stands, and every edge that passes through a layer.
    let stops = layers.iter().map(Vec::len).sum();
    let mut places: Vec<Option<Rect>> = vec![None; stops];
    let mut x = area.x;
    for (layer, width) in layers.iter().zip(&widths) {
        let tall = layer_height(drawn, layer, pitch).saturating_sub(pitch.saturating_sub(2));
        let mut y = area.y + area.height.saturating_sub(tall) / 2;
        for node in layer {
            let real = *node < drawn.nodes.len();
            if let Some(slot) = places.get_mut(*node) {
                *slot = Some(Rect { x, y, width: *width, height: 1 + u16::from(real) });
            }
            y = y.saturating_add(if real { pitch } else { 1 });
        }
        x = x.saturating_add(width + gap);
    }
    let mut lines = Lines::new(area);
    // Calm lines first, so that what fails is drawn over them.
    let mut edges: Vec<(&Vec<usize>, &EdgeRow)> =
        plan.ways.iter().zip(&drawn.edges).map(|(way, edge)| (way, *edge)).collect();
    let touches = |edge: &EdgeRow| selected.is_some_and(|s| edge.from == s || edge.to == s);
    edges.sort_by_key(|(_, edge)| (edge.level, touches(edge)));
    let place = |n: usize| places.get(n).copied().flatten();
    for (way, edge) in &edges {
        let role = match edge.level {
            0 if touches(edge) => Role::Accent,
            0 => Role::Rule,
            level => Theme::level(level),
        };
        for pair in way.windows(2) {
            let [a, b] = pair else { continue };
            let (Some(from), Some(to)) = (place(*a), place(*b)) else { continue };
            lines.edge(from, to, gap, *a, *a < drawn.nodes.len(), role);
        }
    }
    let heads = edges.iter().filter_map(|(way, _)| way.last()).filter_map(|n| place(*n));
    lines.draw(canvas, heads);
    // What an edge carries stands on its last stretch, where it is alone and there is room.
    for (way, edge) in &edges {
        let Some(to) = way.last().and_then(|n| place(*n)) else { continue };
        let several = drawn.edges.iter().filter(|e| e.to == edge.to).count() > 1;
        let said = format!(" {} {} ", hertz(edge.red.rate), latency(edge.red.p99_ns));
        if !several && gap >= width_of(&said) + 8 {
            let role = if edge.level > 0 { Theme::level(edge.level) } else { Role::Dim };
            canvas.say(
                to.x.saturating_sub(width_of(&said) + 3),
                to.y,
                width_of(&said),
                &said,
                role,
            );
        }
    }
    let order: Vec<usize> =
        layers.iter().flatten().copied().filter(|n| *n < drawn.nodes.len()).collect();
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
        if let Some(row) = order.iter().position(|n| *n == i) {
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
        canvas.piece(Role::Text, format!("{name} ")),
        canvas.piece(
            if edge.level > 0 { Theme::level(edge.level) } else { Role::Dim },
            format!(
                "{} {} {}{}",
                hertz(edge.red.rate),
                edge.red.error_ratio.map_or_else(|| "–".into(), error_share),
                latency(edge.red.p99_ns),
                bangs(edge.level)
            ),
        ),
    ];
    if let (Some(caller), Some(callee)) = (edge.red.p99_ns, edge.callee_p99_ns) {
        let way = caller.saturating_sub(callee);
        if way > callee / 5 && way > 1_000_000 {
            pieces
                .push(canvas.piece(Role::Moved, format!(" (+{} on the way)", text::duration(way))));
        }
    }
    if edge.ends == EdgeEnds::One {
        pieces.push(canvas.piece(Role::Dim, " one end"));
    }
    if let Some(below) = &edge.connections {
        pieces.push(canvas.piece(Role::Dim, format!(" ({})", connections(below))));
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
        drawn
            .edges
            .iter()
            .filter(|e| if incoming { e.to == name } else { e.from == name })
            .collect()
    };
    for (y, (word, edges, incoming)) in (area.bottom() - 2..area.bottom())
        .zip([("called by ", list(true), true), ("calls     ", list(false), false)])
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

/// For every row and every level above it: whether another branch follows there.
fn branches(rows: &[(usize, usize, bool)]) -> Vec<Vec<bool>> {
    let mut open: Vec<bool> = Vec::new();
    let mut all: Vec<Vec<bool>> = Vec::new();
    for (_, depth, _) in rows.iter().rev() {
        let depth = (*depth).min(8);
        open.resize(depth + 1, false);
        all.push(open.iter().skip(1).copied().collect());
        if let Some(slot) = open.get_mut(depth) {
            *slot = true;
        }
    }
    all.reverse();
    all
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
    let branches = branches(&rows);
    let order: Vec<usize> =
        rows.iter().filter(|(_, _, again)| !again).map(|(n, _, _)| *n).collect();
    let foot = if area.height >= 9 { 2 } else { 0 };
    let body = Rect { height: area.height - foot, ..area };
    let at = selected.and_then(|s| {
        rows.iter()
            .position(|(n, _, again)| !again && drawn.nodes.get(*n).is_some_and(|n| n.name == s))
    });
    let offset =
        app.with_scroll(PaneId::Topology, |s| s.follow(at, rows.len(), usize::from(body.height)));
    for (y, (i, (n, depth, again))) in
        (body.y..body.bottom()).zip(rows.iter().enumerate().skip(offset))
    {
        let Some(node) = drawn.nodes.get(*n) else { continue };
        let depth = coral_model::num::u16_sat(*depth).min(8);
        let mut x = area.x;
        if depth > 0 {
            for (k, goes_on) in branches.get(i).into_iter().flatten().enumerate() {
                let last = k + 1 == usize::from(depth);
                let mark = match (last, goes_on) {
                    (true, true) => "├ ",
                    (true, false) => "└ ",
                    (false, true) => "│ ",
                    (false, false) => "  ",
                };
                x = canvas.say(x, y, 2, mark, Role::Rule);
            }
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
            if let Some(row) = order.iter().position(|o| o == n) {
                canvas.hit(
                    Rect { x: area.x, y, width: area.width, height: 1 },
                    Target::Row(PaneId::Topology, row),
                );
            }
        }
        if at == Some(i) {
            canvas.select(Rect { x: area.x, y, width: area.width, height: 1 }, focused);
        }
    }
    let below = rows.len().saturating_sub(offset + usize::from(body.height));
    if below > 0 {
        let text = format!(" {below} more ");
        let y = body.bottom().saturating_sub(1);
        canvas.say_right(area.right(), y, area.width, &text, Role::Dim);
    }
    if foot > 0 {
        edges_of(canvas, Rect { y: body.bottom(), height: foot, ..area }, drawn, selected);
    }
}
