//! What tables are sorted by.
//!
//! Every table that can be sorted has its list of orders; the first is its own. Rows keep the
//! colony's order where they are equal, and what is not known stands last whichever way round.
//! Traces are ranked by the colony, which knows more of them than the screen.

use std::cmp::Ordering;

use coral_model::num::f64_from;
use coral_model::question::TraceOrder;
use coral_model::view::{AgentRow, HostRow, ServiceRow, TraceRow, lost};

use super::{App, Here};
use crate::layout::PaneId;

/// One way to sort a table.
#[derive(PartialEq, Eq, Debug)]
pub struct OrderSpec {
    /// Its name: in the palette and in places.
    pub word: &'static str,
    /// Heading of its column; empty when it is not one column's.
    pub column: &'static str,
    /// The greatest, newest or worst stands first, unless turned around.
    pub falls: bool,
}

const fn falling(word: &'static str, column: &'static str) -> OrderSpec {
    OrderSpec { word, column, falls: true }
}

const fn rising(word: &'static str, column: &'static str) -> OrderSpec {
    OrderSpec { word, column, falls: false }
}

const SERVICES: &[OrderSpec] = &[
    falling("worst", ""),
    falling("errors", "err"),
    falling("p99", "p99"),
    falling("rate", "rate"),
    falling("inflight", "inflight"),
    falling("oldest", "oldest"),
    rising("name", "SERVICE"),
];
const TRACES: &[OrderSpec] =
    &[falling("recent", "START"), falling("slow", "duration"), falling("error", "errors")];
const HOSTS: &[OrderSpec] = &[
    rising("name", "HOST"),
    falling("cpu", "cpu"),
    falling("memory", "memory"),
    falling("disk", "disk"),
    falling("stalled-cpu", "psi cpu"),
    falling("stalled-memory", "psi mem"),
    falling("stalled-io", "psi io"),
];
const AGENTS: &[OrderSpec] = &[
    rising("name", "HOST"),
    falling("dropped", "dropped"),
    falling("behind", "behind"),
    falling("spool", "spool"),
    falling("cpu", "cpu"),
    falling("rss", "rss"),
];

/// The orders of a pane's table, its own first; none where rows cannot be sorted.
#[must_use]
pub const fn orders(pane: PaneId) -> &'static [OrderSpec] {
    match pane {
        PaneId::Services => SERVICES,
        PaneId::Traces => TRACES,
        PaneId::Hosts => HOSTS,
        PaneId::Agents => AGENTS,
        _ => &[],
    }
}

/// The order a person chose for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// Which.
    pub spec: &'static OrderSpec,
    /// The other way round.
    pub reversed: bool,
}

impl Order {
    /// The greatest stands first.
    #[must_use]
    pub fn falls(&self) -> bool {
        self.spec.falls != self.reversed
    }

    /// The table's own.
    fn own(pane: PaneId) -> Option<Self> {
        orders(pane).first().map(|spec| Self { spec, reversed: false })
    }
}

impl Here {
    /// What a table is sorted by; `None` for what is no such table.
    #[must_use]
    pub fn order(&self, pane: PaneId) -> Option<Order> {
        self.orders.get(&pane).copied().or_else(|| Order::own(pane))
    }

    /// Sorts a table; by its own order when there is no such word.
    pub fn sort(&mut self, pane: PaneId, word: &str, reversed: bool) {
        match orders(pane).iter().find(|spec| spec.word == word) {
            Some(spec) if Some(Order { spec, reversed }) != Order::own(pane) => {
                self.orders.insert(pane, Order { spec, reversed });
            }
            _ => {
                self.orders.remove(&pane);
            }
        }
    }

    /// What the colony is asked to rank traces by.
    #[must_use]
    pub fn trace_order(&self) -> TraceOrder {
        self.order(PaneId::Traces)
            .and_then(|order| order.spec.word.parse().ok())
            .unwrap_or(TraceOrder::Recent)
    }
}

/// Sorts by a number; what has none stands last.
fn by_number<T>(rows: &mut [&T], falls: bool, number: impl Fn(&T) -> Option<f64>) {
    rows.sort_by(|a, b| match (number(a), number(b)) {
        (Some(a), Some(b)) if falls => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (None, None) => Ordering::Equal,
    });
}

fn by_name<T>(rows: &mut [&T], falls: bool, name: impl Fn(&T) -> &str) {
    rows.sort_by(|a, b| if falls { name(b).cmp(name(a)) } else { name(a).cmp(name(b)) });
}

impl App {
    /// Services in the order shown.
    #[must_use]
    pub fn services(&self) -> Vec<&ServiceRow> {
        let mut rows = self.data.services();
        let Some(order) = self.here.order(PaneId::Services) else { return rows };
        let falls = order.falls();
        let count = |n: Option<u64>| n.map(f64_from);
        match order.spec.word {
            "errors" => by_number(&mut rows, falls, |s| s.red.as_ref()?.error_ratio),
            "p99" => by_number(&mut rows, falls, |s| count(s.red.as_ref()?.p99_ns)),
            "rate" => by_number(&mut rows, falls, |s| Some(s.red.as_ref()?.rate)),
            "inflight" => by_number(&mut rows, falls, |s| count(s.inflight)),
            "oldest" => by_number(&mut rows, falls, |s| count(s.oldest_ns)),
            "name" => by_name(&mut rows, falls, |s| &s.service),
            _ if order.reversed => rows.reverse(),
            _ => {}
        }
        rows
    }

    /// Traces in the order shown.
    #[must_use]
    pub fn traces(&self) -> Vec<&TraceRow> {
        let reversed = self.here.order(PaneId::Traces).is_some_and(|order| order.reversed);
        if reversed { self.data.traces().rev().collect() } else { self.data.traces().collect() }
    }

    /// Hosts in the order shown.
    #[must_use]
    pub fn hosts(&self) -> Vec<&HostRow> {
        let mut rows: Vec<&HostRow> = self.data.hosts().collect();
        let Some(order) = self.here.order(PaneId::Hosts) else { return rows };
        let falls = order.falls();
        let stalled = |host: &HostRow, name: &str| Some(host.pressure.get(name)?.some);
        match order.spec.word {
            "cpu" => by_number(&mut rows, falls, |h| Some(h.cpu?.busy)),
            "memory" => by_number(&mut rows, falls, crate::pane::memory_used),
            "disk" => by_number(&mut rows, falls, crate::pane::disk_used),
            "stalled-cpu" => by_number(&mut rows, falls, |h| stalled(h, "cpu")),
            "stalled-memory" => by_number(&mut rows, falls, |h| stalled(h, "memory")),
            "stalled-io" => by_number(&mut rows, falls, |h| stalled(h, "io")),
            _ => by_name(&mut rows, falls, |h| &h.host),
        }
        rows
    }

    /// Agents in the order shown.
    #[must_use]
    pub fn agents(&self) -> Vec<&AgentRow> {
        let mut rows: Vec<&AgentRow> = self.data.agents().collect();
        let Some(order) = self.here.order(PaneId::Agents) else { return rows };
        let falls = order.falls();
        match order.spec.word {
            "dropped" => by_number(&mut rows, falls, |a| Some(f64_from(lost(&a.counters)))),
            "behind" => by_number(&mut rows, falls, |a| Some(f64_from(a.lag_ns))),
            "spool" => by_number(&mut rows, falls, |a| Some(f64_from(a.spool_bytes))),
            "cpu" => by_number(&mut rows, falls, |a| a.cpu),
            "rss" => by_number(&mut rows, falls, |a| a.rss_bytes.map(f64_from)),
            _ => by_name(&mut rows, falls, |a| &a.host),
        }
        rows
    }

    /// The table that keys about order mean: the focused one, else the first that can be sorted.
    fn sortable(&self) -> Option<PaneId> {
        let sortable = |pane: &PaneId| !orders(*pane).is_empty();
        Some(self.here.focus)
            .filter(sortable)
            .or_else(|| self.frame().panes.iter().map(|(pane, _)| *pane).find(sortable))
    }

    /// Sorts by the next order, or by the one named.
    pub(super) fn next_order(&mut self, name: &str) {
        let Some((pane, order)) = self.sortable().and_then(|p| Some((p, self.here.order(p)?)))
        else {
            return self.say("no table here can be sorted");
        };
        let all = orders(pane);
        let spec = if name.is_empty() {
            let at = all.iter().position(|spec| spec == order.spec).unwrap_or(0);
            all.get((at + 1) % all.len().max(1))
        } else {
            all.iter().find(|spec| spec.word == name)
        };
        let Some(spec) = spec else {
            let words: Vec<&str> = all.iter().map(|spec| spec.word).collect();
            return self.say(format!("{} are sorted by: {}", pane.word(), words.join(" ")));
        };
        self.here.sort(pane, spec.word, false);
        self.say_order(pane);
    }

    /// Turns the order around.
    pub(super) fn reverse_order(&mut self) {
        let Some((pane, order)) = self.sortable().and_then(|p| Some((p, self.here.order(p)?)))
        else {
            return self.say("no table here can be sorted");
        };
        self.here.sort(pane, order.spec.word, !order.reversed);
        self.say_order(pane);
    }

    fn say_order(&mut self, pane: PaneId) {
        let Some(order) = self.here.order(pane) else { return };
        let way = if order.reversed { ", reversed" } else { "" };
        self.say(format!("{} by {}{way}", pane.word(), order.spec.word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_stands_last_whichever_way_round() {
        let rows = [Some(1.0), None, Some(3.0), Some(2.0), None];
        let mut sorted: Vec<&Option<f64>> = rows.iter().collect();
        by_number(&mut sorted, true, |n| *n);
        assert_eq!(sorted, [&Some(3.0), &Some(2.0), &Some(1.0), &None, &None]);
        by_number(&mut sorted, false, |n| *n);
        assert_eq!(sorted, [&Some(1.0), &Some(2.0), &Some(3.0), &None, &None]);
    }

    #[test]
    fn orders_have_words_of_their_own_and_traces_those_of_the_question() {
        for pane in PaneId::ALL {
            let words: Vec<&str> = orders(*pane).iter().map(|spec| spec.word).collect();
            for word in &words {
                assert_eq!(words.iter().filter(|w| *w == word).count(), 1, "{pane:?} {word}");
            }
        }
        let asked: Vec<&str> = TraceOrder::ALL.iter().map(|order| order.word()).collect();
        assert_eq!(asked, orders(PaneId::Traces).iter().map(|s| s.word).collect::<Vec<_>>());
        let mut here = Here::default();
        here.sort(PaneId::Hosts, "nonsense", true);
        assert_eq!(here, Here::default());
        here.sort(PaneId::Services, "worst", false);
        assert_eq!(here, Here::default());
    }
}
