//! What tables are sorted by.
//!
//! Every table that can be sorted has its list of orders; the first is its own. Rows keep the
//! colony's order where they are equal, and what is not known stands last whichever way round.
//! Traces are ranked by the colony, which knows more of them than the screen.

use std::cmp::Ordering;

use coral_model::num::f64_from;
use coral_model::question::TraceOrder;
use coral_model::view::{AgentRow, HostRow, ServiceRow, SqlRow, TraceRow, lost};

use coral_proto::pprof::TopRow;

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
const TRACES: &[OrderSpec] = &[
    falling("recent", "START"),
    falling("slow", "duration"),
    falling("error", "errors"),
    falling("unusual", ""),
];
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

const FUNCTIONS: &[OrderSpec] =
    &[falling("itself", "itself"), falling("calls", "with calls"), rising("name", "FUNCTION")];
const PATTERNS: &[OrderSpec] =
    &[falling("count", "count"), falling("first", "first"), falling("last", "last")];
/// Columns of an answer it can be sorted by.
const ROWS: &[OrderSpec] = &[
    rising("given", ""),
    falling("c1", ""),
    falling("c2", ""),
    falling("c3", ""),
    falling("c4", ""),
    falling("c5", ""),
    falling("c6", ""),
    falling("c7", ""),
    falling("c8", ""),
    falling("c9", ""),
    falling("c10", ""),
    falling("c11", ""),
    falling("c12", ""),
    falling("c13", ""),
    falling("c14", ""),
    falling("c15", ""),
    falling("c16", ""),
];

/// The orders of a pane's table, its own first; none where rows cannot be sorted.
#[must_use]
pub const fn orders(pane: PaneId) -> &'static [OrderSpec] {
    match pane {
        PaneId::Services => SERVICES,
        PaneId::Traces => TRACES,
        PaneId::Hosts => HOSTS,
        PaneId::Agents => AGENTS,
        PaneId::Rows => ROWS,
        PaneId::Functions => FUNCTIONS,
        PaneId::Patterns => PATTERNS,
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

/// A value of an answer, as it is sorted: numbers by size before texts by letters.
enum Sortable {
    Number(f64),
    Text(String),
}

impl Sortable {
    fn of(value: &serde_json::Value) -> Option<Self> {
        use serde_json::Value;
        Some(match value {
            Value::Null => return None,
            Value::Number(n) => Self::Number(n.as_f64()?),
            // What JSON's numbers cannot hold comes as text.
            Value::String(text) => match text.parse::<f64>() {
                Ok(n) => Self::Number(n),
                Err(_) => Self::Text(text.clone()),
            },
            other => Self::Text(other.to_string()),
        })
    }

    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
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

    /// Functions of the profile in the order shown.
    #[must_use]
    pub fn functions(&self) -> Vec<&TopRow> {
        let mut rows: Vec<&TopRow> = self.flame.iter().flat_map(|flame| &flame.top).collect();
        let Some(order) = self.here.order(PaneId::Functions) else { return rows };
        match order.spec.word {
            "calls" => rows.sort_by_key(|row| std::cmp::Reverse(row.cumulative)),
            "name" => rows.sort_by(|a, b| a.name.cmp(&b.name)),
            _ => {}
        }
        if order.reversed {
            rows.reverse();
        }
        rows
    }

    /// The column an answer is sorted by, from 0, and whether its greatest stands first.
    #[must_use]
    pub fn sql_order(&self) -> Option<(usize, bool)> {
        let order = self.here.order(PaneId::Rows)?;
        let n: usize = order.spec.word.strip_prefix('c')?.parse().ok()?;
        let at = n.checked_sub(1)?;
        (at < self.sql_columns()?.columns.len()).then(|| (at, order.falls()))
    }

    /// Rows of an answer in the order shown, each with its place among those that came.
    #[must_use]
    pub fn sql_rows(&self) -> Vec<(usize, &SqlRow)> {
        let rows = self.sql_given().enumerate();
        let column = self.sql_order().and_then(|(at, falls)| {
            Some((self.sql_columns()?.columns.get(at)?.name.as_str(), falls))
        });
        let Some((name, falls)) = column else {
            let mut rows: Vec<_> = rows.collect();
            if self.here.order(PaneId::Rows).is_some_and(|order| order.reversed) {
                rows.reverse();
            }
            return rows;
        };
        let mut keyed: Vec<(Option<Sortable>, (usize, &SqlRow))> =
            rows.map(|(n, row)| (row.values.get(name).and_then(Sortable::of), (n, row))).collect();
        keyed.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) if falls => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (None, None) => Ordering::Equal,
        });
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    /// The orders a pane's table has with what is in it.
    fn orders(&self, pane: PaneId) -> &'static [OrderSpec] {
        let all = orders(pane);
        if pane != PaneId::Rows {
            return all;
        }
        let columns = self.sql_columns().map_or(0, |head| head.columns.len());
        all.get(..(columns + 1).min(all.len())).unwrap_or(all)
    }

    /// What an order is called.
    fn order_name(&self, pane: PaneId, spec: &OrderSpec) -> String {
        let column = spec.word.strip_prefix('c').and_then(|n| n.parse::<usize>().ok());
        let named = column.filter(|_| pane == PaneId::Rows).and_then(|n| {
            self.sql_columns()?.columns.get(n.checked_sub(1)?).map(|c| c.name.clone())
        });
        named.unwrap_or_else(|| spec.word.to_owned())
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
        let all = self.orders(pane);
        let spec = if name.is_empty() {
            let at = all.iter().position(|spec| spec == order.spec).unwrap_or(0);
            all.get((at + 1) % all.len().max(1))
        } else {
            all.iter().find(|spec| spec.word == name || self.order_name(pane, spec) == name)
        };
        let Some(spec) = spec else {
            let words: Vec<String> = all.iter().map(|spec| self.order_name(pane, spec)).collect();
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
        let name = self.order_name(pane, order.spec);
        self.say(format!("{} by {name}{way}", pane.word()));
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
