//! What must be asked for the panes that are on the screen.
//!
//! Declared anew after every change; the difference to what is being asked already becomes effects.
//! So no pane can forget to ask, and none keeps asking when nobody looks.

use std::collections::BTreeMap;

use coral_model::question::{Dimension, Mode, View};
use coral_model::time::{SECOND, Time};

use super::App;
use crate::feed::{Slot, Span, Want};
use crate::layout::{PaneId, ViewId};

/// Buckets a chart is made of, about.
pub(super) const BUCKETS: u64 = 90;
/// With more services than this, charts are asked for the selected one only.
const CHART_SERVICES: usize = 40;

/// How far back a tail begins: as long as records are on their way at worst, so that none falls
/// between it and the history.
const TAIL_BACK: u64 = 30 * SECOND;

/// Everything the visible panes need.
#[must_use]
pub fn wanted(app: &App) -> BTreeMap<Slot, Want> {
    let mut wants = BTreeMap::new();
    let span = app.here.clock.span();
    // The digest is the header's health and the services' order; it is always asked.
    let mut digest = Want::new(View::Digest, span);
    digest.filter.clone_from(&app.here.filter);
    if !digest.filter.is_empty() {
        // How the colony is does not depend on what somebody is looking for.
        wants.insert(Slot::Colony, Want::new(View::Digest, span));
    }
    wants.insert(Slot::Digest, digest);

    for (pane, _) in &app.frame().panes {
        match pane {
            PaneId::Services if app.here.view == ViewId::Services || app.here.zoom => {
                let mut want = Want::new(View::Services, span);
                want.filter.clone_from(&app.here.filter);
                wants.insert(Slot::Services, want);
            }
            PaneId::Operations if app.here.service.is_some() => {
                let mut want = Want::new(View::Red, span);
                want.filter = app.here.narrowed(app.here.split.is_some());
                want.by = vec![app.here.split.unwrap_or(Dimension::Operation)];
                wants.insert(Slot::Operations, want);
            }
            PaneId::Charts => {
                let mut want = Want::new(View::Red, span);
                want.by = vec![Dimension::Service];
                want.step = Some(app.here.clock.bucket(BUCKETS));
                want.limit = 5_000;
                want.filter = if app.data.services().len() > CHART_SERVICES {
                    app.here.narrowed(false)
                } else {
                    app.here.filter.clone()
                };
                wants.insert(Slot::Series, want);
            }
            PaneId::Topology => {
                let mut want = Want::new(View::Topology, span);
                want.filter.clone_from(&app.here.filter);
                wants.insert(Slot::Topology, want);
            }
            PaneId::Logs => {
                let mut history = Want::new(View::Logs, span);
                history.mode = Mode::Once;
                history.limit = 500;
                history.filter = app.here.narrowed(false);
                if let Span::Live(_) = span {
                    let mut tail = history.clone();
                    tail.mode = Mode::Tail;
                    // A tail begins at its window's start; what is older, the history has.
                    tail.span = Span::Live(TAIL_BACK.min(app.here.clock.length));
                    tail.limit = 10_000;
                    wants.insert(Slot::Tail, tail);
                }
                wants.insert(Slot::Logs, history);
            }
            PaneId::Timeline => {
                let mut want = Want::new(View::Events, span);
                want.limit = 500;
                want.filter.clone_from(&app.here.filter);
                wants.insert(Slot::Events, want);
            }
            PaneId::Traces => {
                let mut want = Want::new(View::Traces, span);
                want.limit = 200;
                want.order = app.here.trace_order();
                want.filter = app.here.narrowed(true);
                wants.insert(Slot::Traces, want);
            }
            PaneId::Waterfall | PaneId::Span => {
                if let Some(trace) = app.here.trace {
                    // A trace is looked up by its id over a day; spans may still be arriving.
                    let mut want = Want::new(View::Trace, span);
                    want.mode = if app.here.clock.is_live() { Mode::Watch } else { Mode::Once };
                    want.subject = Some(trace.to_string());
                    want.limit = 5_000;
                    wants.insert(Slot::Trace, want);
                }
            }
            PaneId::Hosts | PaneId::Host => {
                wants.insert(Slot::Hosts, Want::new(View::Hosts, span));
            }
            PaneId::Agents | PaneId::Agent => {
                wants.insert(Slot::Agents, Want::new(View::Agents, span));
            }
            PaneId::Inflight => {
                let mut want = Want::new(View::Inflight, span);
                want.filter = app.here.narrowed(false);
                wants.insert(Slot::Inflight, want);
            }
            PaneId::Diff => {
                // What is looked for does not change with every second, and costs more than most.
                let mut want = Want::new(View::Diff, span);
                want.mode = Mode::Once;
                want.limit = 200;
                want.filter = app.here.narrowed(true);
                wants.insert(Slot::Diff, want);
            }
            PaneId::Context | PaneId::Record => {
                let want = app.context_want().filter(|_| app.here.view == ViewId::Context);
                if let Some(want) = want {
                    wants.insert(Slot::Context, want);
                }
            }
            PaneId::Patterns => {
                let mut want = Want::new(View::Patterns, span);
                want.mode = Mode::Once;
                want.limit = 500;
                want.filter = app.here.narrowed(false);
                wants.insert(Slot::Patterns, want);
            }
            PaneId::Editor | PaneId::Rows | PaneId::Values => {
                if let Some(want) = app.sql_want() {
                    wants.insert(Slot::Sql, want);
                }
                // What there is to complete is the same in every window.
                let window = coral_model::time::Window::new(Time(0), Time(SECOND));
                let mut columns = Want::new(View::Sql, Span::Fixed(window));
                columns.subject = Some(super::columns_question());
                columns.limit = 5_000;
                wants.insert(Slot::Columns, columns);
            }
            PaneId::Services
            | PaneId::Operations
            | PaneId::Profile
            | PaneId::Functions
            | PaneId::Why
            | PaneId::Ask => {}
        }
    }
    // An answer that is out of sight is neither forgotten nor asked for again.
    if !wants.contains_key(&Slot::Sql)
        && let Some(asked) = app.standing(Slot::Sql)
        && asked.subject.as_ref() == Some(&app.here.statement)
        && app.here.view != ViewId::Sql
    {
        wants.insert(Slot::Sql, (*asked).clone());
    }
    wants
}
