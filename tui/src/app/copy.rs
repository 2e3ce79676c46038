//! What a person takes along: the query line and the place.

use coral_model::id::TraceId;
use coral_model::paths::ColonyName;
use coral_model::place::{self, Place, Selection};
use coral_model::question::{Dimension, Mode, Question, View};

use super::{App, Clock, ClockMode, Here};
use crate::layout::{PaneId, ViewId};

impl App {
    /// The question the focused pane answers, over exactly the window shown.
    #[must_use]
    pub fn question(&self) -> Question {
        let here = &self.here;
        let (view, filter) = match here.focus {
            PaneId::Services | PaneId::Profile | PaneId::Ask => {
                (View::Services, here.filter.clone())
            }
            PaneId::Why => (View::Digest, here.filter.clone()),
            PaneId::Operations => (View::Red, here.narrowed(here.split.is_some())),
            PaneId::Charts => (View::Red, here.narrowed(false)),
            PaneId::Topology => (View::Topology, here.filter.clone()),
            PaneId::Logs | PaneId::Record => (View::Logs, here.narrowed(false)),
            PaneId::Timeline => (View::Events, here.filter.clone()),
            PaneId::Traces => (View::Traces, here.narrowed(true)),
            PaneId::Waterfall | PaneId::Span => (View::Trace, String::new()),
            PaneId::Hosts | PaneId::Host => (View::Hosts, String::new()),
            PaneId::Agents | PaneId::Agent => (View::Agents, String::new()),
            PaneId::Inflight => (View::Inflight, here.narrowed(false)),
        };
        let mut question = Question::new(view, self.window());
        question.filter = filter;
        question.mode = Mode::Once;
        match here.focus {
            PaneId::Operations => {
                question.by = vec![here.split.unwrap_or(Dimension::Operation)];
            }
            PaneId::Charts => {
                question.by = vec![Dimension::Service];
                question.step = Some(here.clock.bucket(super::wants::BUCKETS));
            }
            PaneId::Traces => question.order = here.order,
            PaneId::Waterfall | PaneId::Span => {
                question.subject = here.trace.map(|t| t.to_string());
            }
            _ => {}
        }
        question
    }

    /// The `coral query` line that prints what the focused pane shows.
    #[must_use]
    pub fn query_line(&self) -> String {
        place::command(&self.question())
    }

    /// This moment, selection and filter.
    #[must_use]
    pub fn place(&self) -> Place {
        let here = &self.here;
        Place {
            colony: self.colony.parse::<ColonyName>().ok(),
            view: here.view.word().to_owned(),
            window: self.window(),
            filter: here.filter.clone(),
            selection: Selection {
                service: here.service.clone(),
                operation: here.operation.clone(),
                trace: here.trace.filter(|_| here.view == ViewId::Trace).map(|t| t.to_string()),
                ..Selection::default()
            },
            compare: None,
        }
    }

    /// One line that reopens this moment, selection and filter.
    #[must_use]
    pub fn place_line(&self) -> String {
        self.place().command()
    }

    /// Goes to a place, a trace id or a service name.
    ///
    /// # Errors
    /// A sentence that says what cannot be opened.
    pub fn open(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim();
        let text = text.strip_prefix("coral open").unwrap_or(text).trim();
        if text.starts_with(place::SCHEME) {
            let place: Place = text.parse().map_err(|e: place::PlaceError| e.to_string())?;
            return self.open_place(&place);
        }
        if let Ok(trace) = text.parse::<TraceId>() {
            self.go(|here| {
                here.view = ViewId::Trace;
                here.trace = Some(trace);
                here.focus = PaneId::Waterfall;
                here.zoom = false;
            });
            return Ok(());
        }
        if text.is_empty() || text.contains(char::is_whitespace) {
            let text = coral_model::text::fit(text, 60);
            return Err(format!("`{text}` is no place, trace id or service"));
        }
        let name = text.to_owned();
        self.go(|here| {
            here.view = ViewId::Services;
            here.service = Some(name);
            here.focus = PaneId::Operations;
            here.zoom = false;
        });
        Ok(())
    }

    fn open_place(&mut self, place: &Place) -> Result<(), String> {
        // Places are also made by `coral query`, whose views have other names for the same thing.
        let view = match place.view.as_str() {
            "digest" => ViewId::Incident,
            "red" => ViewId::Services,
            "events" => ViewId::Timeline,
            word => ViewId::ALL.iter().copied().find(|v| v.word() == word).ok_or_else(|| {
                format!("this build has no view `{}`", coral_model::text::fit(word, 20))
            })?,
        };
        coral_model::filter::parse(&place.filter).map_err(|e| e.short())?;
        let trace = match &place.selection.trace {
            Some(text) => Some(text.parse::<TraceId>().map_err(|e| e.to_string())?),
            None => None,
        };
        let next = Here {
            view,
            clock: Clock::at(place.window),
            filter: place.filter.clone(),
            service: place.selection.service.clone(),
            operation: place.selection.operation.clone(),
            trace,
            order: self.here.order,
            focus: match view {
                ViewId::Trace => PaneId::Waterfall,
                ViewId::Traces => PaneId::Traces,
                _ => PaneId::Services,
            },
            ..Here::default()
        };
        debug_assert!(!matches!(next.clock.mode, ClockMode::Live));
        if let Some(colony) = &place.colony
            && !self.colony.is_empty()
            && colony.to_string() != self.colony
        {
            self.say(format!(
                "this place is of colony {colony}; shown is the same moment of {}",
                self.colony
            ));
        }
        self.go(|here| *here = next);
        Ok(())
    }
}
