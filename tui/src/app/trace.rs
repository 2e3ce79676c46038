//! A trace as it is listed: its spans, and below each what was logged in it.

use std::collections::HashMap;

use coral_model::id::SpanId;
use coral_model::view::{LogRow, Row, SpanRow, TraceHead};

use super::App;
use crate::feed::Slot;
use crate::layout::PaneId;

/// A line of a trace.
#[derive(Clone, Copy, Debug)]
pub enum TraceLine<'a> {
    /// A span.
    Span(&'a SpanRow),
    /// A log record, and how deep the span lies in which it was written.
    Log(&'a LogRow, u32),
}

impl TraceLine<'_> {
    /// What it is known by.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Span(span) => span.span_id.to_string(),
            Self::Log(log, _) => format!("@{}", super::places::mark(log)),
        }
    }
}

impl App {
    /// What is said of the trace as a whole.
    #[must_use]
    pub fn trace_head(&self) -> Option<&TraceHead> {
        self.data.rows(Slot::Trace).iter().find_map(|row| match row {
            Row::TraceHead(head) => Some(&**head),
            _ => None,
        })
    }

    /// Log records that name the trace.
    pub fn trace_logs(&self) -> impl Iterator<Item = &LogRow> {
        self.data.rows(Slot::Trace).iter().filter_map(|row| match row {
            Row::Log(log) => Some(&**log),
            _ => None,
        })
    }

    /// The lines of the trace. Records whose span is not there stand at the end.
    #[must_use]
    pub fn trace_lines(&self) -> Vec<TraceLine<'_>> {
        let mut by_span: HashMap<SpanId, Vec<&LogRow>> = HashMap::new();
        let mut rest: Vec<&LogRow> = Vec::new();
        if !self.here.bare {
            let spans: std::collections::HashSet<SpanId> =
                self.data.spans().map(|span| span.span_id).collect();
            for log in self.trace_logs() {
                match log.span_id.filter(|id| spans.contains(id)) {
                    Some(id) => by_span.entry(id).or_default().push(log),
                    None => rest.push(log),
                }
            }
        }
        let mut lines = Vec::new();
        for span in self.data.spans() {
            lines.push(TraceLine::Span(span));
            // Both ends of a call may share an id: what was logged stands below the first.
            let mut logs = by_span.remove(&span.span_id).unwrap_or_default();
            logs.sort_by_key(|log| log.time);
            lines.extend(logs.into_iter().map(|log| TraceLine::Log(log, span.depth + 1)));
        }
        rest.sort_by_key(|log| log.time);
        lines.extend(rest.into_iter().map(|log| TraceLine::Log(log, 0)));
        lines
    }

    /// The line the cursor is on, else the first.
    #[must_use]
    pub fn trace_line(&self) -> Option<TraceLine<'_>> {
        self.trace_lines().get(self.cursor(PaneId::Waterfall).unwrap_or(0)).copied()
    }

    /// Shows the trace's spans alone, or its logs among them.
    pub(super) fn fold_logs(&mut self) {
        let logs = self.trace_logs().count();
        self.here.bare = !self.here.bare;
        self.say(match (logs, self.here.bare) {
            (0, _) => "no log record names this trace",
            (_, true) => "without its logs; s shows them again",
            (_, false) => "with its logs",
        });
    }
}
