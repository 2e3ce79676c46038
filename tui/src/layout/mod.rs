//! Which panes a view shows at a size, and where.
//!
//! Pure arithmetic over the terminal's size: no pane is ever dropped without another key that
//! shows it, and below 40×10 there is only a sentence that says so.

use ratatui::layout::Rect;

/// A pane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PaneId {
    /// Services, worst first.
    Services,
    /// Operations of a service, or its split.
    Operations,
    /// RED over time.
    Charts,
    /// Who calls whom.
    Topology,
    /// Log records.
    Logs,
    /// One log record in full.
    Record,
    /// Events.
    Timeline,
    /// Traces.
    Traces,
    /// One trace.
    Waterfall,
    /// One span in full.
    Span,
    /// Profile.
    Profile,
    /// Hosts.
    Hosts,
    /// One host in full.
    Host,
    /// Agents.
    Agents,
    /// One agent in full.
    Agent,
    /// Requests in flight.
    Inflight,
    /// Why, in full.
    Why,
    /// Ask.
    Ask,
    /// What tells requests apart.
    Diff,
    /// A statement being written.
    Editor,
    /// Its answer.
    Rows,
    /// One row of it in full.
    Values,
    /// Functions of a profile.
    Functions,
    /// Log records beside one.
    Context,
    /// What log records have in common.
    Patterns,
}

impl PaneId {
    /// Every pane.
    pub const ALL: &'static [Self] = &[
        Self::Services,
        Self::Operations,
        Self::Charts,
        Self::Topology,
        Self::Logs,
        Self::Record,
        Self::Timeline,
        Self::Traces,
        Self::Waterfall,
        Self::Span,
        Self::Profile,
        Self::Hosts,
        Self::Host,
        Self::Agents,
        Self::Agent,
        Self::Inflight,
        Self::Why,
        Self::Ask,
        Self::Diff,
        Self::Editor,
        Self::Rows,
        Self::Values,
        Self::Functions,
        Self::Context,
        Self::Patterns,
    ];

    /// Its name: in titles, snapshots and places.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Operations => "operations",
            Self::Charts => "charts",
            Self::Topology => "topology",
            Self::Logs => "logs",
            Self::Record => "record",
            Self::Timeline => "timeline",
            Self::Traces => "traces",
            Self::Waterfall => "trace",
            Self::Span => "span",
            Self::Profile => "profile",
            Self::Hosts => "hosts",
            Self::Host => "host",
            Self::Agents => "agents",
            Self::Agent => "agent",
            Self::Inflight => "inflight",
            Self::Why => "why",
            Self::Ask => "ask",
            Self::Diff => "diff",
            Self::Editor => "sql",
            Self::Rows => "rows",
            Self::Values => "values",
            Self::Functions => "functions",
            Self::Context => "context",
            Self::Patterns => "patterns",
        }
    }
}

/// What fills the screen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ViewId {
    /// The digest; from 120×36 up the workstation around it.
    Incident,
    /// Services.
    Services,
    /// Topology.
    Topology,
    /// Traces.
    Traces,
    /// One trace.
    Trace,
    /// Logs.
    Logs,
    /// Timeline.
    Timeline,
    /// Profile.
    Profile,
    /// Hosts.
    Hosts,
    /// Agents.
    Agents,
    /// In-flight requests.
    Inflight,
    /// Why, in full.
    Why,
    /// What tells requests apart.
    Diff,
    /// A statement of one's own.
    Sql,
    /// Log records beside one.
    Context,
    /// What log records have in common.
    Patterns,
}

impl ViewId {
    /// Every view.
    pub const ALL: &'static [Self] = &[
        Self::Incident,
        Self::Services,
        Self::Topology,
        Self::Traces,
        Self::Trace,
        Self::Logs,
        Self::Timeline,
        Self::Profile,
        Self::Hosts,
        Self::Agents,
        Self::Inflight,
        Self::Why,
        Self::Diff,
        Self::Sql,
        Self::Context,
        Self::Patterns,
    ];

    /// Its word in places and titles.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Services => "services",
            Self::Topology => "topology",
            Self::Traces => "traces",
            Self::Trace => "trace",
            Self::Logs => "logs",
            Self::Timeline => "timeline",
            Self::Profile => "profile",
            Self::Hosts => "hosts",
            Self::Agents => "agents",
            Self::Inflight => "inflight",
            Self::Why => "why",
            Self::Diff => "diff",
            Self::Sql => "sql",
            Self::Context => "context",
            Self::Patterns => "patterns",
        }
    }
}

/// Smallest terminal anything is drawn on.
pub const SMALLEST: (u16, u16) = (40, 10);
/// From this size up the digest is a workstation.
pub const WORKSTATION: (u16, u16) = (120, 36);

/// Where everything is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// First line.
    pub header: Rect,
    /// WHY lines and the path; no height where the view has none.
    pub why: Rect,
    /// Panes with their title line, in the order Tab visits them.
    pub panes: Vec<(PaneId, Rect)>,
    /// Vertical lines between panes.
    pub posts: Vec<Rect>,
    /// Last line.
    pub bar: Rect,
}

/// Splits off the top `n` rows.
fn top(area: Rect, n: u16) -> (Rect, Rect) {
    let n = n.min(area.height);
    (Rect { height: n, ..area }, Rect { y: area.y + n, height: area.height - n, ..area })
}

/// Splits off the left `n` columns, with a post between.
fn left(area: Rect, n: u16, posts: &mut Vec<Rect>) -> (Rect, Rect) {
    let n = n.min(area.width);
    let rest = area.width.saturating_sub(n + 1);
    if rest > 0 {
        posts.push(Rect { x: area.x + n, width: 1, ..area });
    }
    (Rect { width: n, ..area }, Rect { x: (area.x + n + 1).min(area.right()), width: rest, ..area })
}

fn part(n: u16, percent: u16) -> u16 {
    coral_model::num::u16_sat(u32::from(n) * u32::from(percent) / 100)
}

/// Height of a list of `rows` with title and heading, at most so many percent of what there is.
fn fitting(rows: u16, height: u16, percent: u16) -> u16 {
    rows.saturating_add(3).clamp(4, part(height, percent).max(4))
}

/// Arranges `view` on a terminal of `size`. `why` is how many lines the digest's head needs, `rows`
/// how many rows the view's first list has, `changes` how many events there are to list; `zoom`
/// gives one pane everything.
#[must_use]
pub fn arrange(
    view: ViewId,
    size: (u16, u16),
    why: u16,
    rows: u16,
    changes: u16,
    zoom: Option<PaneId>,
) -> Frame {
    let area = Rect { x: 0, y: 0, width: size.0, height: size.1 };
    let (header, rest) = top(area, 1);
    let (body, bar) = top(rest, rest.height.saturating_sub(1));
    let mut frame = Frame { header, bar, ..Frame::default() };
    let wide = size.0 >= WORKSTATION.0;
    let posts = &mut frame.posts;

    if let Some(pane) = zoom {
        frame.panes.push((pane, body));
        return frame;
    }
    let with_head = matches!(view, ViewId::Incident);
    let (head, body) = if with_head {
        top(body, why.min(body.height / 2))
    } else {
        (Rect { height: 0, ..body }, body)
    };
    frame.why = head;

    frame.panes = match view {
        ViewId::Incident if wide && size.1 >= WORKSTATION.1 => {
            // The upper row is as high as its services need, the middle one takes what is left.
            let low_h = if size.1 >= 60 { part(body.height, 20) } else { 8 };
            let (upper, low) = top(body, body.height.saturating_sub(low_h));
            let most = part(upper.height, 55);
            let (high, mid) = top(upper, rows.saturating_add(3).clamp(most.min(11), most));
            let half = part(body.width, 50);
            let big = size.0 >= 180;
            let split = part(body.width, if big { 48 } else { 56 });
            let (services, charts) = left(high, split, posts);
            let (topology, logs) = left(mid, if big { part(body.width, 53) } else { half }, posts);
            let (timeline, ask) = left(low, part(body.width, if big { 66 } else { 62 }), posts);
            vec![
                (PaneId::Services, services),
                (PaneId::Charts, charts),
                (PaneId::Topology, topology),
                (PaneId::Logs, logs),
                (PaneId::Timeline, timeline),
                (PaneId::Ask, ask),
            ]
        }
        ViewId::Incident => {
            // The table takes what its services need, the changes the rest; neither less than a
            // few lines.
            let least = 4.min(body.height / 3);
            let wanted = changes.saturating_add(1).clamp(least.max(1), (body.height / 2).max(1));
            let table = rows.saturating_add(1).min(body.height.saturating_sub(wanted));
            let (services, timeline) = top(body, table.max(body.height / 3));
            vec![(PaneId::Services, services), (PaneId::Timeline, timeline)]
        }
        ViewId::Services if wide => {
            let (table, low) = top(body, fitting(rows, body.height, 62));
            let (operations, charts) = left(low, part(low.width, 52), posts);
            vec![
                (PaneId::Services, table),
                (PaneId::Operations, operations),
                (PaneId::Charts, charts),
            ]
        }
        ViewId::Services => {
            let (table, operations) = top(body, fitting(rows, body.height, 60));
            vec![(PaneId::Services, table), (PaneId::Operations, operations)]
        }
        ViewId::Topology => vec![(PaneId::Topology, body)],
        ViewId::Traces if size.1 >= 36 => {
            let (charts, list) = top(body, 9);
            vec![(PaneId::Traces, list), (PaneId::Charts, charts)]
        }
        ViewId::Traces => vec![(PaneId::Traces, body)],
        ViewId::Trace if wide => {
            let (waterfall, span) = left(body, part(body.width, 66), posts);
            vec![(PaneId::Waterfall, waterfall), (PaneId::Span, span)]
        }
        ViewId::Trace => {
            let (waterfall, span) = top(body, part(body.height, 62));
            vec![(PaneId::Waterfall, waterfall), (PaneId::Span, span)]
        }
        ViewId::Logs if wide => {
            let (logs, record) = left(body, part(body.width, 68), posts);
            vec![(PaneId::Logs, logs), (PaneId::Record, record)]
        }
        ViewId::Logs => vec![(PaneId::Logs, body)],
        ViewId::Timeline => vec![(PaneId::Timeline, body)],
        ViewId::Profile => {
            // As many functions as there is room for below the graph, which has the eye first.
            let list = rows.saturating_add(2).min(part(body.height, 45));
            let (graph, functions) = top(body, body.height - if rows == 0 { 0 } else { list });
            vec![(PaneId::Profile, graph), (PaneId::Functions, functions)]
        }
        ViewId::Hosts => {
            let (hosts, host) = top(body, fitting(rows, body.height, 50));
            vec![(PaneId::Hosts, hosts), (PaneId::Host, host)]
        }
        ViewId::Agents => {
            let (agents, agent) = top(body, fitting(rows, body.height, 45));
            vec![(PaneId::Agents, agents), (PaneId::Agent, agent)]
        }
        ViewId::Inflight => vec![(PaneId::Inflight, body)],
        ViewId::Why => vec![(PaneId::Why, body)],
        ViewId::Diff => vec![(PaneId::Diff, body)],
        ViewId::Patterns => vec![(PaneId::Patterns, body)],
        ViewId::Context if wide => {
            let (context, record) = left(body, part(body.width, 68), posts);
            vec![(PaneId::Context, context), (PaneId::Record, record)]
        }
        ViewId::Context => vec![(PaneId::Context, body)],
        ViewId::Sql => {
            let (editor, low) =
                top(body, rows.saturating_add(2).clamp(4, part(body.height, 45).max(4)));
            if wide {
                let (answer, values) = left(low, part(low.width, 66), posts);
                vec![(PaneId::Editor, editor), (PaneId::Rows, answer), (PaneId::Values, values)]
            } else {
                vec![(PaneId::Editor, editor), (PaneId::Rows, low)]
            }
        }
    };
    frame.panes.retain(|(_, area)| area.height > 0 && area.width > 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_stay_inside_and_apart_at_every_size() {
        for view in ViewId::ALL {
            for width in (1..=300).step_by(7) {
                for height in (1..=100).step_by(3) {
                    let area = Rect { x: 0, y: 0, width, height };
                    let why = width % 40;
                    let frame = arrange(*view, (width, height), why, height / 2, 9, None);
                    for (i, (pane, rect)) in frame.panes.iter().enumerate() {
                        assert_eq!(
                            area.intersection(*rect),
                            *rect,
                            "{view:?} {pane:?} {width}x{height}"
                        );
                        for (other, other_rect) in frame.panes.iter().skip(i + 1) {
                            assert!(
                                !rect.intersects(*other_rect),
                                "{view:?} {pane:?} {other:?} {width}x{height}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_workstation_opens_at_its_size() {
        assert_eq!(arrange(ViewId::Incident, (80, 24), 5, 9, 9, None).panes.len(), 2);
        assert_eq!(arrange(ViewId::Incident, (120, 36), 5, 9, 9, None).panes.len(), 6);
    }
}
