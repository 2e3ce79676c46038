//! What a person takes along to a shell: the query line.

use coral_model::place;
use coral_model::question::{Dimension, Mode, Question, View};

use super::App;
use crate::layout::{PaneId, ViewId};

impl App {
    /// The question the focused pane answers, over exactly the window shown.
    #[must_use]
    pub fn question(&self) -> Question {
        let here = &self.here;
        let (view, filter) = match here.focus {
            PaneId::Services | PaneId::Profile | PaneId::Functions | PaneId::Ask => {
                (View::Services, here.filter.clone())
            }
            PaneId::Why => (View::Digest, here.filter.clone()),
            PaneId::Operations => (View::Red, here.narrowed(here.split.is_some())),
            PaneId::Charts => (View::Red, here.narrowed(false)),
            PaneId::Topology => (View::Topology, here.filter.clone()),
            PaneId::Record if here.view == ViewId::Context => (View::Logs, String::new()),
            PaneId::Logs | PaneId::Record => (View::Logs, here.narrowed(false)),
            PaneId::Timeline => (View::Events, here.filter.clone()),
            PaneId::Traces => (View::Traces, here.narrowed(true)),
            PaneId::Waterfall | PaneId::Span => (View::Trace, String::new()),
            PaneId::Hosts | PaneId::Host => (View::Hosts, String::new()),
            PaneId::Agents | PaneId::Agent => (View::Agents, String::new()),
            PaneId::Inflight => (View::Inflight, here.narrowed(false)),
            PaneId::Diff => (View::Diff, here.narrowed(true)),
            PaneId::Context => (View::Logs, String::new()),
            PaneId::Patterns => (View::Patterns, here.narrowed(false)),
            PaneId::Editor | PaneId::Rows | PaneId::Values => (View::Sql, String::new()),
        };
        let mut question = Question::new(view, self.window());
        question.filter = filter;
        question.mode = Mode::Once;
        if here.view == ViewId::Context {
            question.around = self.context_want().and_then(|want| want.around);
        }
        match here.focus {
            PaneId::Operations => {
                question.by = vec![here.split.unwrap_or(Dimension::Operation)];
            }
            PaneId::Charts => {
                question.by = vec![Dimension::Service];
                question.step = Some(here.clock.bucket(super::wants::BUCKETS));
            }
            PaneId::Traces => question.order = here.trace_order(),
            PaneId::Waterfall | PaneId::Span => {
                question.subject = here.trace.map(|t| t.to_string());
            }
            PaneId::Editor | PaneId::Rows | PaneId::Values => {
                let typed = self.sql.text();
                let shown = if here.statement.is_empty() { &typed } else { &here.statement };
                question.subject = Some(super::flat(shown));
            }
            _ => {}
        }
        question
    }

    /// The `coral query` line that prints what the focused pane shows.
    #[must_use]
    pub fn query_line(&self) -> String {
        if let (PaneId::Profile | PaneId::Functions, Some(flame)) = (self.here.focus, &self.flame) {
            return format!("coral open {}", place::shell_quote(&flame.path.to_string_lossy()));
        }
        place::command(&self.question())
    }
}
