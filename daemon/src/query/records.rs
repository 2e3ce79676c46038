//! The records answers are made from: which signal a question reads, and how a filter sees its rows.

use coral_model::filter::{self, Expr, Key};
use coral_model::question::View;

use super::fetch::Sql;
use super::filter::services;
use super::sql::{Field, Layout};
use super::{QueryError, events, logs, metrics, traces};
use crate::store::schema::Signal;

/// How a filter sees RED deltas.
pub const RED: Layout = Layout {
    view: View::Red,
    column: red_column,
    texts: &["t.service", "t.operation", "t.code"],
    attributes: false,
    resource: true,
};

fn red_column(key: &Key) -> Option<Field> {
    Some(match key {
        Key::Service => Field::Text("t.service"),
        Key::Operation | Key::Route | Key::Name => Field::Text("t.operation"),
        Key::Status => Field::Text("t.code"),
        Key::Error => Field::Bool("(t.errors > 0)"),
        Key::Kind => Field::Text("(CASE t.kind WHEN 5 THEN 'consumer' ELSE 'server' END)"),
        Key::Host => Field::Text("r.host"),
        Key::Instance => Field::Text("r.instance"),
        Key::Version => Field::Text("r.version"),
        Key::Zone => Field::Text("r.zone"),
        Key::Namespace => Field::Text("r.namespace"),
        _ => return None,
    })
}

/// How a filter sees edge deltas.
pub const EDGES: Layout = Layout {
    view: View::Topology,
    column: edges_column,
    texts: &["t.from_name", "t.to_name"],
    attributes: false,
    resource: false,
};

fn edges_column(key: &Key) -> Option<Field> {
    Some(match key {
        Key::Service => Field::Either(
            "(CASE t.from_kind WHEN 'service' THEN t.from_name END)",
            "(CASE t.to_kind WHEN 'service' THEN t.to_name END)",
        ),
        Key::Name => Field::Either("t.from_name", "t.to_name"),
        Key::Kind => Field::Either("t.from_kind", "t.to_kind"),
        Key::Protocol => Field::Text("nullif(t.protocol, '')"),
        Key::Error => Field::Bool("(t.errors > 0)"),
        _ => return None,
    })
}

/// What a view's records are: their signal, the column of their time, how a filter sees them.
pub fn source(view: View) -> Result<(Signal, &'static str, &'static Layout), QueryError> {
    Ok(match view {
        View::Traces | View::Trace => (Signal::Spans, "start_ns", &traces::LAYOUT),
        View::Logs => (Signal::Logs, "time_ns", &logs::LAYOUT),
        View::Metrics => (Signal::Metrics, "time_ns", &metrics::LAYOUT),
        View::Events => (Signal::Events, "time_ns", &events::LAYOUT),
        View::Red => (Signal::Red, "bucket_ns", &RED),
        View::Topology => (Signal::Edges, "bucket_ns", &EDGES),
        other => {
            return Err(QueryError::Question(format!(
                "`{other}` has no records of its own to export; traces (spans), logs, metrics, events, red and topology (edges) have"
            )));
        }
    })
}

/// Which of a signal's rows (`t`, beside its resource `r`) a filter means, as a condition with its
/// values; `None` where it means all.
///
/// A filter may name what rows of a signal do not have. Of those it then means the ones of the services
/// it names, and all where it names none: whoever takes a part of everything wants what belongs to it.
///
/// # Errors
/// The filter cannot be read.
pub fn passing(
    signal: Signal,
    text: &str,
) -> Result<Option<(String, Vec<duckdb::types::Value>)>, QueryError> {
    let expr = filter::parse(text).map_err(|e| QueryError::Filter(e.to_string()))?;
    let layout = match signal {
        Signal::Spans => &traces::LAYOUT,
        Signal::Logs => &logs::LAYOUT,
        Signal::Metrics => &metrics::LAYOUT,
        Signal::Events => &events::LAYOUT,
        _ => return Ok(None),
    };
    if expr.is_everything() {
        return Ok(None);
    }
    let fits = |expr: &Expr| expr.terms().iter().all(|term| term.key.fits(layout.view));
    let sql = if fits(&expr) {
        layout.condition(&expr)?
    } else {
        let names = services(&expr);
        if names.is_empty() {
            return Ok(None);
        }
        let mut sql = Sql::new("t.service IN (");
        for (n, name) in names.into_iter().enumerate() {
            sql = sql.then(if n == 0 { "" } else { ", " }).bind(name);
        }
        sql.then(")")
    };
    Ok(Some((sql.text, sql.values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_passes_or_belongs_to_its_services() {
        let of = |signal, text: &str| passing(signal, text).unwrap();
        assert!(of(Signal::Spans, "").is_none() && of(Signal::Hosts, "service=a").is_none());
        let (text, values) = of(Signal::Spans, "service=pay duration=1s..").unwrap();
        assert!(text.contains("t.duration_ns") && values.len() == 2, "{text}");
        let (text, values) = of(Signal::Logs, "service=pay duration=1s..").unwrap();
        assert_eq!((text.as_str(), values.len()), ("t.service IN (?)", 1));
        assert!(of(Signal::Logs, "duration=1s..").is_none());
        assert!(passing(Signal::Logs, "((").is_err());
    }
}
