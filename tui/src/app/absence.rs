//! Why there is nothing to show: nothing ever arrived, nothing in this time, or nothing that passes
//! the filter. Only the first asks for applications to be set up.

use coral_model::filter::{self, Expr, closest};
use coral_model::text::fit;
use coral_model::view::Health;

use super::{App, ClockMode};

/// Names offered in place of one that is not known.
const OFFERED: usize = 3;

/// Why there is nothing to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// No application has sent anything to this colony, as far as is known.
    Ever,
    /// Nothing was heard in the window shown.
    Here,
    /// There is something, but the filter lets no request pass.
    Filtered,
}

impl App {
    /// Why the digest is empty; `None` where it is not, or is not known yet.
    #[must_use]
    pub fn absence(&self) -> Option<Absence> {
        let colony = self.data.colony()?;
        if colony.health == Health::NoData {
            // Of a time that is past, nothing follows for others.
            let fixed = matches!(self.here.clock.mode, ClockMode::Fixed(_));
            let ever = !self.data.heard && colony.services_known == 0 && !fixed;
            return Some(if ever { Absence::Ever } else { Absence::Here });
        }
        let digest = self.data.digest().filter(|_| !self.here.filter.is_empty())?;
        (digest.health == Health::NoData).then_some(Absence::Filtered)
    }

    /// The filter, understood.
    fn filter_expr(&self) -> Expr {
        filter::parse(&self.here.filter).unwrap_or_default()
    }

    /// A sentence about a service that the filter names and nobody has heard of.
    #[must_use]
    pub fn stranger(&self) -> Option<String> {
        let filter = self.filter_expr();
        filter.services().into_iter().find_map(|name| self.unknown_service(name))
    }

    /// A sentence about a service nobody has heard of, with names that are near; `None` where it
    /// is known, or no service is.
    #[must_use]
    pub fn unknown_service(&self, name: &str) -> Option<String> {
        let names = &self.data.names;
        if names.is_empty() || names.contains(name) {
            return None;
        }
        let all = names.iter().map(String::as_str);
        Some(unknown_among("service", name, all))
    }
}

/// `no service … is known` (or host, as `what` says), and what may have been meant.
#[must_use]
pub fn unknown_among<'a>(
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let near = closest(name, names.clone(), OFFERED);
    let name = fit(name, 40);
    if near.is_empty() {
        let all: Vec<&str> = names.take(30).collect();
        return format!("no {what} `{name}` is known; there are: {}", fit(&all.join(" "), 100));
    }
    let near: Vec<String> = near.iter().map(|near| format!("`{}`", fit(near, 40))).collect();
    format!("no {what} `{name}` is known; did you mean {}?", near.join(" or "))
}
