//! Where a person is: everything that Esc restores.

use std::collections::BTreeMap;

use coral_model::id::{RecordId, TraceId};
use coral_model::question::Dimension;
use coral_model::view::{DiffRow, Origin};

use super::clock::Clock;
use super::order::Order;
use crate::layout::{PaneId, ViewId};

/// A place in the program.
#[derive(Clone, PartialEq, Debug)]
pub struct Here {
    /// What fills the screen.
    pub view: ViewId,
    /// The pane keys go to.
    pub focus: PaneId,
    /// That pane has the whole screen.
    pub zoom: bool,
    /// Time.
    pub clock: Clock,
    /// Selected service.
    pub service: Option<String>,
    /// Selected operation.
    pub operation: Option<String>,
    /// Selected trace.
    pub trace: Option<TraceId>,
    /// Filter, in the filter language.
    pub filter: String,
    /// The statement whose answer is shown.
    pub statement: String,
    /// A trace is shown without its logs.
    pub bare: bool,
    /// The log record whose neighbours are shown.
    pub around: Option<RecordId>,
    /// The branch of a profile that has the whole width.
    pub branch: Option<usize>,
    /// What the selected service is split by.
    pub split: Option<Dimension>,
    /// What tables are sorted by, where it is not their own order.
    pub orders: BTreeMap<PaneId, Order>,
    /// The selected row of each pane, by the row's own key.
    pub cursors: BTreeMap<PaneId, String>,
}

impl Default for Here {
    fn default() -> Self {
        Self {
            view: ViewId::Incident,
            focus: PaneId::Services,
            zoom: false,
            clock: Clock::default(),
            service: None,
            operation: None,
            trace: None,
            filter: String::new(),
            statement: String::new(),
            bare: false,
            around: None,
            branch: None,
            split: None,
            orders: BTreeMap::new(),
            cursors: BTreeMap::new(),
        }
    }
}

/// A test of the filter language: `key=value`, quoted where it must be.
#[must_use]
pub fn term(key: &str, value: &str) -> String {
    let bare = !value.is_empty()
        && value.chars().all(|c| c.is_alphanumeric() || "._-/:{}@+".contains(c))
        && !value.contains("..");
    if bare {
        format!("{key}={value}")
    } else {
        format!("{key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// The test that only what has a value found by `diff` passes; `None` where no filter reaches it.
#[must_use]
pub fn finding(row: &DiffRow) -> Option<String> {
    if row.origin == Origin::Event {
        return None;
    }
    let key = &row.attribute;
    let test = match &row.value {
        None => format!("not:has:{key}"),
        Some(value) => {
            let ends = value.split_once("..");
            let number = |text: &str| text.parse::<f64>().is_ok();
            let range = ends.is_some_and(|(from, to)| number(from) && number(to));
            if range { format!("{key}={value}") } else { term(key, value) }
        }
    };
    // A name that the language cannot say must not break the filter that is there.
    coral_model::filter::parse(&test).is_ok().then_some(test)
}

impl Here {
    /// Narrows the filter by one more test.
    pub fn add_test(&mut self, test: &str) {
        if coral_model::filter::split_words(&self.filter).iter().any(|word| word == test) {
            return;
        }
        self.filter = match self.filter.as_str() {
            "" => test.to_owned(),
            filter if filter.contains(" or ") => format!("({filter}) {test}"),
            filter => format!("{filter} {test}"),
        };
    }

    /// The filter together with the selection, for panes that follow it.
    #[must_use]
    pub fn narrowed(&self, operation_too: bool) -> String {
        let mut parts = Vec::new();
        if let Some(service) = &self.service {
            parts.push(term("service", service));
        }
        if let Some(operation) = self.operation.as_ref().filter(|_| operation_too) {
            parts.push(term("operation", operation));
        }
        if !self.filter.is_empty() {
            parts.push(if self.filter.contains(" or ") && !parts.is_empty() {
                format!("({})", self.filter)
            } else {
                self.filter.clone()
            });
        }
        parts.join(" ")
    }
}
