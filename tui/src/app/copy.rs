//! What a person takes along: the query line and the place.

use coral_model::question::Dimension;
use coral_model::when;

use super::{App, Clock, ClockMode, Here};
use crate::layout::{PaneId, ViewId};

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let safe = !word.is_empty()
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "=._-/:,@%+".contains(c));
    if safe { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

impl App {
    fn time_words(&self) -> String {
        match self.here.clock.mode {
            ClockMode::Live => format!(" --since {}", when::print_duration(self.here.clock.length)),
            ClockMode::Paused(_) | ClockMode::Fixed(_) => {
                let window = self.window();
                format!(" --from {} --to {}", window.from.rfc3339(), window.to.rfc3339())
            }
        }
    }

    /// The `coral query` line that prints what the focused pane shows.
    #[must_use]
    pub fn query_line(&self) -> String {
        let here = &self.here;
        let (view, filter) = match here.focus {
            PaneId::Services => ("services", here.filter.clone()),
            PaneId::Operations => ("red", here.narrowed(here.split.is_some())),
            PaneId::Charts => ("red", here.narrowed(false)),
            PaneId::Topology => ("topology", here.filter.clone()),
            PaneId::Logs | PaneId::Record => ("logs", here.narrowed(false)),
            PaneId::Timeline => ("events", here.filter.clone()),
            PaneId::Traces => ("traces", here.narrowed(true)),
            PaneId::Waterfall | PaneId::Span => ("trace", String::new()),
            PaneId::Hosts | PaneId::Host => ("hosts", String::new()),
            PaneId::Agents | PaneId::Agent => ("agents", String::new()),
            PaneId::Inflight => ("inflight", here.narrowed(false)),
            PaneId::Why | PaneId::Profile | PaneId::Ask => ("services", here.filter.clone()),
        };
        if view == "agents" {
            return "coral agents list".to_owned();
        }
        let mut line = format!("coral query {view}");
        if let Some(trace) = here.trace.filter(|_| view == "trace") {
            line.push_str(&format!(" {trace}"));
        }
        line.push_str(&self.time_words());
        if here.focus == PaneId::Operations {
            let by = here.split.unwrap_or(Dimension::Operation);
            line.push_str(&format!(" --by {by}"));
        }
        if view == "traces" && here.order != coral_model::question::TraceOrder::Recent {
            line.push_str(&format!(" --order {}", here.order));
        }
        for word in coral_model::filter::split_words(&filter) {
            line.push(' ');
            line.push_str(&shell(&word));
        }
        line
    }

    /// One line that reopens this moment, selection and filter with `coral open`.
    #[must_use]
    pub fn place_line(&self) -> String {
        let here = &self.here;
        let mut words = vec![format!("view={}", here.view.word())];
        match here.clock.mode {
            ClockMode::Live => {
                words.push(format!("last={}", when::print_duration(here.clock.length)));
            }
            // A place is a moment: pasted into a chat it must show what its sender saw.
            ClockMode::Paused(_) | ClockMode::Fixed(_) => {
                let window = self.window();
                words.push(format!("from={}", window.from.rfc3339()));
                words.push(format!("to={}", window.to.rfc3339()));
            }
        }
        if let Some(service) = &here.service {
            words.push(format!("service={service}"));
        }
        if let Some(operation) = &here.operation {
            words.push(format!("operation={operation}"));
        }
        if let Some(trace) = here.trace.filter(|_| here.view == ViewId::Trace) {
            words.push(format!("trace={trace}"));
        }
        if !here.filter.is_empty() {
            words.push(format!("filter={}", here.filter));
        }
        let words: Vec<String> = words.iter().map(|w| shell(w)).collect();
        format!("coral open {}", words.join(" "))
    }

    /// Goes to a place line, a trace id or a service name.
    ///
    /// # Errors
    /// A sentence that says what cannot be opened.
    pub fn open(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim();
        let text = text.strip_prefix("coral open").unwrap_or(text).trim();
        if let Ok(trace) = text.parse::<coral_model::TraceId>() {
            self.go(|here| {
                here.view = ViewId::Trace;
                here.trace = Some(trace);
                here.focus = PaneId::Waterfall;
                here.zoom = false;
            });
            return Ok(());
        }
        let words = unshell(text);
        if words.len() == 1 && words.iter().all(|w| !w.contains('=')) {
            let name = text.to_owned();
            self.go(|here| {
                here.view = ViewId::Services;
                here.service = Some(name);
                here.focus = PaneId::Operations;
                here.zoom = false;
            });
            return Ok(());
        }
        let clock = when::Clock { now: self.newest(), zone: self.shown_zone() };
        let mut next = Here { order: self.here.order, ..Here::default() };
        let (mut from, mut to) = (None, None);
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                return Err(format!("`{word}` is not part of a place: `view=… service=… from=…`"));
            };
            let time = || when::parse_time(value, &clock).map_err(|e| e.to_string());
            match key {
                "view" => {
                    next.view = ViewId::ALL
                        .iter()
                        .copied()
                        .find(|v| v.word() == value)
                        .ok_or_else(|| format!("there is no view `{value}`"))?;
                }
                "last" => {
                    let length = when::parse_duration(value).map_err(|e| e.to_string())?;
                    next.clock = Clock { length, mode: ClockMode::Live };
                }
                "from" => from = Some(time()?),
                "to" => to = Some(time()?),
                "service" => next.service = Some(value.to_owned()),
                "operation" => next.operation = Some(value.to_owned()),
                "trace" => next.trace = Some(value.parse().map_err(|e: coral_model::id::IdError| e.to_string())?),
                "filter" => {
                    coral_model::filter::parse(value).map_err(|e| e.short())?;
                    next.filter = value.to_owned();
                }
                _ => return Err(format!("`{key}` is not part of a place")),
            }
        }
        if let (Some(from), Some(to)) = (from, to) {
            next.clock = Clock::at(coral_model::Window::new(from, to));
        }
        self.go(|here| *here = next);
        Ok(())
    }
}

/// Words of a line as a shell would read them: blanks apart, single quotes around.
fn unshell(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any) = (false, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            '\\' if !quoted => word.extend(chars.next()),
            c if c.is_whitespace() && !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
