//! Rows of panes, and which one is selected.
//!
//! A selection is the row's own key (a name, an id), not its number: when a list is sorted anew
//! under the cursor, the cursor stays with what it pointed at.

use coral_model::time::{SECOND, Time};
use coral_model::view::{EventKind, EventRow, NodeKind};

use super::{App, TraceLine};
use crate::layout::{PaneId, ViewId};
use crate::widget::Scroll;

/// What happened this long before an onset belongs to it.
const BEFORE_ONSET: u64 = 180 * SECOND;
/// What was met for the first time longer than this before the onset has nothing to do with it.
const MET: u64 = 30 * SECOND;

/// Beyond the last line of any page of text; drawing it stops at its end.
const LAST_LINE: usize = 10_000;

/// Whether a pane is a page of text: those scroll by a count of lines, kept as their cursor.
const fn is_page(pane: PaneId) -> bool {
    matches!(
        pane,
        PaneId::Record | PaneId::Span | PaneId::Host | PaneId::Agent | PaneId::Why | PaneId::Values
    )
}

impl App {
    /// Rows a pane's list has.
    #[must_use]
    pub fn rows(&self, pane: PaneId) -> usize {
        match pane {
            PaneId::Services => self.data.services().len(),
            PaneId::Operations => self.data.operations().count(),
            PaneId::Topology => self.data.nodes().count(),
            PaneId::Logs => self.data.logs.len(),
            PaneId::Timeline => self.timeline().len(),
            PaneId::Traces => self.data.traces().count(),
            PaneId::Waterfall => self.trace_lines().len(),
            PaneId::Context => self.data.context().count(),
            PaneId::Patterns => self.data.patterns().count(),
            PaneId::Hosts => self.data.hosts().count(),
            PaneId::Agents => self.data.agents().count(),
            PaneId::Inflight => self.data.inflight().count(),
            PaneId::Diff => self.data.diff().count(),
            PaneId::Rows => self.sql_given().count(),
            PaneId::Functions => self.flame.as_ref().map_or(0, |flame| flame.top.len()),
            PaneId::Charts
            | PaneId::Record
            | PaneId::Span
            | PaneId::Profile
            | PaneId::Host
            | PaneId::Agent
            | PaneId::Why
            | PaneId::Ask
            | PaneId::Editor
            | PaneId::Values => 0,
        }
    }

    /// The key of row `i`.
    #[must_use]
    pub fn row_key(&self, pane: PaneId, i: usize) -> Option<String> {
        match pane {
            PaneId::Services => self.services().get(i).map(|s| s.service.clone()),
            PaneId::Operations => self.data.operations().nth(i).map(|row| {
                row.by
                    .values()
                    .next()
                    .cloned()
                    .unwrap_or_else(|| row.operation.clone())
                    .unwrap_or_default()
            }),
            PaneId::Topology => self.node_order().get(i).cloned(),
            PaneId::Logs => self.data.logs.get(i).map(|log| log.n.to_string()),
            PaneId::Timeline => self.timeline().get(i).map(|e| format!("{} {}", e.time.0, e.text)),
            PaneId::Traces => self.traces().get(i).map(|t| t.trace_id.to_string()),
            PaneId::Waterfall => self.trace_lines().get(i).map(TraceLine::key),
            PaneId::Context => self.context().get(i).map(|log| log.offset.unwrap_or(0).to_string()),
            PaneId::Patterns => self.patterns().get(i).map(|p| p.pattern.clone()),
            PaneId::Hosts => self.hosts().get(i).map(|h| h.host.clone()),
            PaneId::Agents => self.agents().get(i).map(|a| a.agent.clone()),
            PaneId::Inflight => {
                self.data.inflight().nth(i).map(|r| {
                    format!("{} {}", r.service, r.operation.as_deref().unwrap_or_default())
                })
            }
            PaneId::Diff => self.data.diff().nth(i).map(|row| {
                format!("{} {}", row.attribute, row.value.as_deref().unwrap_or_default())
            }),
            PaneId::Functions => self.functions().get(i).map(|row| row.name.clone()),
            PaneId::Rows => self.sql_rows().get(i).map(|(n, _)| n.to_string()),
            _ => None,
        }
    }

    /// Events the timeline lists, newest first: all of them, but on the digest of an incident those
    /// since its onset and what changed shortly before; there, what somebody did stands first, and
    /// how a young colony began is left out unless it is the suspect's own beginning and all there is.
    #[must_use]
    pub fn timeline(&self) -> Vec<&EventRow> {
        let digest = self.data.digest();
        let digested = self.here.view == ViewId::Incident && !self.here.zoom;
        let mut events: Vec<&EventRow> = self.data.events().collect();
        events.sort_by_key(|e| std::cmp::Reverse(e.time));
        let Some(onset) = digest.and_then(|d| d.onset).filter(|_| digested) else { return events };
        events.retain(|e| e.time >= onset.minus(BEFORE_ONSET));
        let arrival =
            |e: &EventRow| matches!(e.kind, EventKind::ServiceAppeared | EventKind::AgentConnected);
        let old = |e: &EventRow| arrival(e) && e.time < onset.minus(MET);
        let suspect = digest.and_then(|d| d.suspect.as_ref());
        if events.iter().any(|e| !old(e)) {
            events.retain(|e| !old(e));
        } else {
            events.retain(|e| suspect.is_some() && e.service.as_ref() == suspect);
        }
        let done = |e: &EventRow| {
            matches!(e.kind, EventKind::Deploy | EventKind::Restart | EventKind::Note)
        };
        events.sort_by_key(|e| !done(e));
        events
    }

    /// Names of the nodes in the order the topology lists them: callers before callees.
    #[must_use]
    pub fn node_order(&self) -> Vec<String> {
        crate::pane::topology_order(self)
    }

    /// The key selected in a pane.
    #[must_use]
    pub fn selected_key(&self, pane: PaneId) -> Option<&str> {
        match pane {
            PaneId::Services => self.here.service.as_deref(),
            PaneId::Topology => {
                self.here.cursors.get(&pane).map(String::as_str).or(self.here.service.as_deref())
            }
            _ => self.here.cursors.get(&pane).map(String::as_str),
        }
    }

    /// The selected row's number.
    #[must_use]
    pub fn cursor(&self, pane: PaneId) -> Option<usize> {
        let key = self.selected_key(pane)?;
        if pane == PaneId::Logs {
            if let Some(mark) = key.strip_prefix('@') {
                return self.data.logs.position(|log| mark == super::places::mark(&log.row));
            }
            let n: u64 = key.parse().ok()?;
            return self.data.logs.position(|log| log.n == n);
        }
        match pane {
            PaneId::Services => self.services().iter().position(|s| s.service == key),
            PaneId::Topology => self.node_order().iter().position(|n| n == key),
            PaneId::Timeline => {
                let (time, text) = key.split_once(' ')?;
                let time = Time(time.parse().ok()?);
                self.timeline().iter().position(|e| e.time == time && e.text == text)
            }
            PaneId::Traces => {
                let id = key.parse().ok()?;
                self.traces().iter().position(|t| t.trace_id == id)
            }
            PaneId::Hosts => self.hosts().iter().position(|h| h.host == key),
            PaneId::Agents => self.agents().iter().position(|a| a.agent == key),
            PaneId::Waterfall => self.trace_lines().iter().position(|line| line.key() == key),
            PaneId::Context => {
                let offset: i64 = key.parse().ok()?;
                self.context().iter().position(|log| log.offset.unwrap_or(0) == offset)
            }
            PaneId::Patterns => self.patterns().iter().position(|p| p.pattern == key),
            PaneId::Functions => self.functions().iter().position(|row| row.name == key),
            PaneId::Rows => {
                let n: usize = key.parse().ok()?;
                self.sql_rows().iter().position(|(given, _)| *given == n)
            }
            _ => (0..self.rows(pane)).find(|i| self.row_key(pane, *i).as_deref() == Some(key)),
        }
    }

    /// Selects a row, or none.
    pub fn select(&mut self, pane: PaneId, row: Option<usize>) {
        let key = row.and_then(|i| self.row_key(pane, i));
        match pane {
            PaneId::Services => {
                if self.here.service != key {
                    self.here.operation = None;
                    self.here.cursors.remove(&PaneId::Operations);
                    self.here.cursors.remove(&PaneId::Topology);
                }
                self.here.service = key;
            }
            PaneId::Topology => {
                let service = key.as_ref().filter(|name| {
                    self.data.nodes().any(|n| n.name == **name && n.kind == NodeKind::Service)
                });
                if service.is_some() && self.here.service != service.cloned() {
                    self.here.operation = None;
                    self.here.cursors.remove(&PaneId::Operations);
                    self.here.service = service.cloned();
                }
                self.put_cursor(pane, key);
            }
            _ => self.put_cursor(pane, key),
        }
    }

    fn put_cursor(&mut self, pane: PaneId, key: Option<String>) {
        match key {
            Some(key) => self.here.cursors.insert(pane, key),
            None => self.here.cursors.remove(&pane),
        };
    }

    /// Moves the selection of a pane by `n` rows.
    pub fn step_rows(&mut self, pane: PaneId, n: usize, down: bool) {
        if pane == PaneId::Profile {
            let n = isize::try_from(n).unwrap_or(isize::MAX);
            return self.step_flame(if down { n } else { -n }, 0);
        }
        let len = self.rows(pane);
        if is_page(pane) {
            let at: usize = self.here.cursors.get(&pane).and_then(|t| t.parse().ok()).unwrap_or(0);
            let to = if down {
                at.saturating_add(n).min(LAST_LINE)
            } else {
                // From the end that is seen, however far beyond it the count went.
                at.min(self.with_scroll(pane, Scroll::furthest)).saturating_sub(n)
            };
            self.here.cursors.insert(pane, to.to_string());
            return;
        }
        if len == 0 {
            return;
        }
        let last = len - 1;
        let next = match (self.cursor(pane), down) {
            // The newest record is the last one, and following it means selecting none.
            (None, true) if pane == PaneId::Logs => return,
            (None, false) if pane == PaneId::Logs => last.saturating_sub(n.saturating_sub(1)),
            (Some(i), true) if pane == PaneId::Logs && i + n > last => {
                self.select(pane, None);
                return;
            }
            (None, _) => 0,
            (Some(i), true) => i.saturating_add(n).min(last),
            (Some(i), false) => i.saturating_sub(n),
        };
        self.select(pane, Some(next));
    }

    /// Selects the first or last row.
    pub fn jump(&mut self, pane: PaneId, end: bool) {
        let len = self.rows(pane);
        if pane == PaneId::Profile {
            self.here.cursors.remove(&pane);
            self.step_flame(if end { isize::from(i16::MAX) } else { 0 }, 0);
        } else if end && is_page(pane) {
            self.here.cursors.insert(pane, LAST_LINE.to_string());
        } else if len == 0 {
            self.here.cursors.remove(&pane);
        } else if end && pane == PaneId::Logs {
            self.select(pane, None);
        } else {
            self.select(pane, Some(if end { len - 1 } else { 0 }));
        }
    }
}
