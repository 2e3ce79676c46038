//! Enter: from what is selected to what it is made of.

use coral_model::question::{Dimension, TraceOrder};
use coral_model::time::SECOND;
use coral_model::view::NodeKind;

use super::{App, Clock, ClockMode};
use crate::layout::{PaneId, ViewId};

impl App {
    /// Goes into what is selected in the focused pane.
    pub(super) fn enter(&mut self) {
        let focus = self.here.focus;
        let row = self.cursor(focus);
        if row.is_none() && self.rows(focus) > 0 {
            // Nothing selected yet: the first Enter says what would be opened.
            if focus == PaneId::Logs {
                self.step_rows(focus, 1, false);
            } else {
                self.select(focus, Some(0));
            }
            return;
        }
        match focus {
            PaneId::Services => {
                if self.here.view == ViewId::Services && !self.here.zoom {
                    self.go(|here| here.focus = PaneId::Operations);
                } else if self.here.service.is_some() {
                    self.go(|here| {
                        here.view = ViewId::Services;
                        here.focus = PaneId::Operations;
                        here.zoom = false;
                    });
                }
            }
            PaneId::Operations => {
                let key = self.selected_key(focus).map(str::to_owned);
                let Some(key) = key else { return };
                match self.here.split {
                    None | Some(Dimension::Operation) => self.go(|here| {
                        here.view = ViewId::Traces;
                        here.operation = Some(key);
                        here.focus = PaneId::Traces;
                        here.zoom = false;
                    }),
                    Some(dimension) => self.go(|here| {
                        let test = super::term(dimension.word(), &key);
                        here.add_test(&test);
                        here.split = None;
                    }),
                }
            }
            PaneId::Charts => self.go(|here| {
                here.view = ViewId::Traces;
                here.focus = PaneId::Traces;
                here.sort(PaneId::Traces, TraceOrder::Slow.word(), false);
                here.zoom = false;
            }),
            PaneId::Topology => {
                let name = self.selected_key(focus).map(str::to_owned);
                let Some(name) = name else { return };
                let node = self.data.nodes().find(|n| n.name == name).cloned();
                match node {
                    Some(node) if node.kind == NodeKind::Service => self.go(|here| {
                        here.view = ViewId::Services;
                        here.service = Some(name);
                        here.focus = PaneId::Operations;
                        here.zoom = false;
                    }),
                    Some(node) => self.say(format!(
                        "{name} reports nothing itself: this {} is known by those who call it",
                        node.kind
                    )),
                    None => {}
                }
            }
            PaneId::Traces => {
                let id = self.selected_key(focus).and_then(|key| key.parse().ok());
                self.open_trace(id);
            }
            PaneId::Inflight => {
                let id = row.and_then(|i| self.data.inflight().nth(i)).and_then(|r| r.oldest_trace);
                if id.is_none() {
                    self.say("no part of the oldest request has arrived as a trace yet");
                }
                self.open_trace(id);
            }
            PaneId::Waterfall => self.go(|here| {
                here.focus = PaneId::Span;
                here.zoom = true;
            }),
            PaneId::Logs => self.go(|here| {
                here.view = ViewId::Logs;
                here.focus = PaneId::Record;
                here.zoom = true;
                here.cursors.remove(&PaneId::Record);
            }),
            PaneId::Context => self.go(|here| {
                here.focus = PaneId::Record;
                here.zoom = true;
                here.cursors.remove(&PaneId::Record);
            }),
            PaneId::Patterns => self.keep_to_pattern(row),
            PaneId::Span => match self.linked_trace() {
                Some(id) => self.open_trace(Some(id)),
                None => self.here.zoom = !self.here.zoom,
            },
            PaneId::Record => {
                let id = self.selected_log().and_then(|log| log.trace_id);
                if id.is_none() {
                    self.say("this record names no trace");
                }
                self.open_trace(id);
            }
            PaneId::Timeline => {
                let event = row.and_then(|i| self.timeline().get(i).copied().cloned());
                let newest = self.newest_second();
                if let Some(event) = event {
                    self.go(|here| {
                        let middle = event.time.align(SECOND);
                        let to = middle.plus(here.clock.length / 2).min(newest);
                        here.clock = Clock { mode: ClockMode::Fixed(to), ..here.clock };
                        if event.service.is_some() {
                            here.service.clone_from(&event.service);
                        }
                        here.view = ViewId::Incident;
                        here.zoom = false;
                    });
                    self.say("the window is around that event now; L is live, esc goes back");
                }
            }
            PaneId::Hosts => self.go(|here| here.focus = PaneId::Host),
            PaneId::Agents => self.go(|here| here.focus = PaneId::Agent),
            PaneId::Diff => self.keep_to_finding(row),
            PaneId::Rows => self.go(|here| {
                here.focus = PaneId::Values;
                here.zoom = true;
                here.cursors.remove(&PaneId::Values);
            }),
            PaneId::Values => match self.sql_trace() {
                Some(id) => self.open_trace(Some(id)),
                None => self.here.zoom = !self.here.zoom,
            },
            PaneId::Host | PaneId::Agent | PaneId::Why => {
                self.here.zoom = !self.here.zoom;
            }
            PaneId::Profile => self.enter_flame(),
            PaneId::Functions => self.enter_function(row.unwrap_or(0)),
            PaneId::Ask | PaneId::Editor => {}
        }
    }

    /// Looks only at what has the value found.
    fn keep_to_finding(&mut self, row: Option<usize>) {
        let Some(row) = row.and_then(|i| self.data.diff().nth(i)).cloned() else { return };
        let Some(test) = super::here::finding(&row) else {
            let text = format!("{} is of a span's events, which no filter reaches", row.attribute);
            return self.say(coral_model::text::clean(&text).into_owned());
        };
        let shown = coral_model::text::fit(&test, 60);
        self.go(|here| {
            here.add_test(&test);
            here.view = ViewId::Traces;
            here.focus = PaneId::Traces;
            here.zoom = false;
        });
        self.say(format!("only {shown} now, everywhere; esc takes it back, x drops every filter"));
    }

    /// The trace that the selected row of an answer names.
    #[must_use]
    pub fn sql_trace(&self) -> Option<coral_model::TraceId> {
        let rows = self.sql_rows();
        let (_, row) = rows.get(self.cursor(PaneId::Rows).unwrap_or(0))?;
        row.values.values().find_map(|value| value.as_str().filter(|t| t.len() == 32)?.parse().ok())
    }

    fn open_trace(&mut self, id: Option<coral_model::TraceId>) {
        let Some(id) = id else { return };
        self.go(|here| {
            here.view = ViewId::Trace;
            here.trace = Some(id);
            here.focus = PaneId::Waterfall;
            here.zoom = false;
            here.cursors.remove(&PaneId::Waterfall);
        });
    }

    /// The other trace that the selected span is linked to.
    fn linked_trace(&self) -> Option<coral_model::TraceId> {
        let Some(super::TraceLine::Span(span)) = self.trace_line() else { return None };
        span.links.iter().map(|link| link.trace_id).find(|id| Some(*id) != self.here.trace)
    }

    /// The log record the cursor is on, else the newest.
    #[must_use]
    pub fn selected_log(&self) -> Option<&coral_model::view::LogRow> {
        match self.here.view {
            ViewId::Context => return self.context_log(),
            ViewId::Trace => {
                return match self.trace_line()? {
                    super::TraceLine::Log(log, _) => Some(log),
                    super::TraceLine::Span(_) => None,
                };
            }
            _ => {}
        }
        match self.cursor(PaneId::Logs) {
            Some(i) => self.data.logs.get(i).map(|n| &n.row),
            None => self.data.logs.newest().map(|n| &n.row),
        }
    }
}
