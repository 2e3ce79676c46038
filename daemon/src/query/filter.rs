//! The filter of a question: read once, checked against the view, applied to rows in memory.
//!
//! Spans, log records, metric points and events are filtered by DuckDB (see [`super::sql`]); what is
//! aggregated or small (RED, edges, requests in flight, hosts, agents) is filtered here, by the
//! model's own evaluation, so that live memory and the store cannot differ.

use std::borrow::Cow;

use coral_model::filter::{self, Expr, FieldValue, Fields, Key, Test, Value};
use coral_model::question::View;

use super::QueryError;
use super::cells::{Cells, Resource, Series};

/// Reads the filter of a question about `view`.
pub fn read(text: &str, view: View) -> Result<Expr, QueryError> {
    let expr = filter::parse(text).map_err(|e| QueryError::Filter(e.to_string()))?;
    for term in expr.terms() {
        if !term.key.fits(view) {
            return Err(unknown(&term.key, view));
        }
    }
    Ok(expr)
}

/// The error for a key that rows of a view do not have.
pub fn unknown(key: &Key, view: View) -> QueryError {
    let mut keys: Vec<&str> = Key::known()
        .filter(|(word, _)| Key::known_name(word).is_some_and(|k| k.fits(view)))
        .map(|(word, _)| word)
        .collect();
    if Key::Attribute("x".into()).fits(view) {
        keys.push("any attribute by name");
    }
    if Key::Resource("x".into()).fits(view) {
        keys.push("res.<attribute>");
    }
    QueryError::Key { key: key.to_string(), view, keys: keys.join(" ") }
}

/// The only services rows can have that pass, when the filter says so plainly; else empty.
pub fn services(expr: &Expr) -> Vec<String> {
    let all = match expr {
        Expr::And(all) => all.as_slice(),
        Expr::Term(_) => std::slice::from_ref(expr),
        _ => &[],
    };
    for e in all {
        if let Expr::Term(term) = e
            && term.key == Key::Service
            && let Test::Any(values) = &term.test
        {
            let names = values.iter().map(|v| match v {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
            return names.collect::<Option<_>>().unwrap_or_default();
        }
    }
    Vec::new()
}

/// Whether it asks about attributes of the resource that have no column.
pub fn needs_attributes(expr: &Expr) -> bool {
    expr.terms().iter().any(|t| matches!(t.key, Key::Resource(_) | Key::Attribute(_)))
}

/// A RED series as a filter sees it.
pub struct SeriesFields<'a> {
    /// The table it lies in.
    pub cells: &'a Cells,
    /// The series.
    pub series: &'a Series,
    /// Its resource, when known.
    pub resource: Option<&'a Resource>,
    /// Any of its requests failed.
    pub failed: bool,
}

impl Fields for SeriesFields<'_> {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        let word = |s| self.cells.symbols.word(s).map(FieldValue::from);
        let of = |f: fn(&Resource) -> u32| word(self.resource.map_or(0, f));
        match key {
            Key::Service => word(self.series.service),
            Key::Operation | Key::Route | Key::Name => word(self.series.operation),
            Key::Status => word(self.series.code),
            Key::Kind => {
                let kind = coral_model::view::SpanKind::from_otlp(u64::from(self.series.kind));
                Some(FieldValue::from(kind.word()))
            }
            Key::Error => Some(FieldValue::Bool(self.failed)),
            Key::Instance => of(|r| r.instance),
            Key::Host => of(|r| r.host),
            Key::Version => of(|r| r.version),
            Key::Zone => of(|r| r.zone),
            Key::Namespace => of(|r| r.namespace),
            Key::Resource(name) | Key::Attribute(name) => {
                let value = self.resource?.attributes.get(name)?;
                Some(FieldValue::Text(Cow::Borrowed(value)))
            }
            _ => None,
        }
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        for symbol in [self.series.service, self.series.operation, self.series.code] {
            if let Some(word) = self.cells.symbols.word(symbol) {
                visit(word);
            }
        }
    }
}

/// Which series of the table the filter lets through.
///
/// `error` is decided by series: a series of requests that share service, operation, kind and
/// status, of which at least one failed. RED keeps no more than that.
pub fn select(cells: &Cells, expr: &Expr) -> Vec<bool> {
    if expr.is_everything() {
        return vec![true; cells.series.len()];
    }
    let mut failed = vec![false; cells.series.len()];
    for cell in cells.cells.iter().filter(|c| cells.read(c).errors > 0) {
        if let Some(slot) = failed.get_mut(coral_model::num::usize_sat(cell.series)) {
            *slot = true;
        }
    }
    let mut failed = failed.into_iter();
    cells.select(|series, resource| {
        let failed = failed.next().unwrap_or_default();
        expr.matches(&SeriesFields { cells, series, resource, failed })
    })
}
