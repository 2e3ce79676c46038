//! A filter as a condition for DuckDB.
//!
//! Values are bound, never pasted, so no text of a person or of telemetry is ever read as SQL. The
//! condition means what [`Expr::matches`] means: a field that is not there fails every test, and the
//! negation of such a test holds; hence every test is wrapped so that NULL becomes false.

use std::ops::Bound;

use coral_model::filter::{Expr, Key, Range, Scalar, Test, Value};
use coral_model::question::View;

use super::QueryError;
use super::fetch::Sql;
use super::filter::unknown;

/// How the rows of a view are laid out: one row of a table `t` joined with its resource `r`.
#[derive(Debug)]
pub struct Layout {
    /// The view, for messages.
    pub view: View,
    /// The column or expression of a key; `None` where rows have no such field.
    pub column: fn(&Key) -> Option<Field>,
    /// Expressions that a bare word searches.
    pub texts: &'static [&'static str],
    /// The table has an attribute map `t.attributes`.
    pub attributes: bool,
    /// The table has `t.resource`.
    pub resource: bool,
}

/// An expression and what it holds.
#[derive(Debug, Clone, Copy)]
pub enum Field {
    /// Text.
    Text(&'static str),
    /// One text or the other: an edge has two ends.
    Either(&'static str, &'static str),
    /// Nanoseconds.
    Duration(&'static str),
    /// OpenTelemetry's severity number.
    Severity(&'static str),
    /// Yes or no.
    Bool(&'static str),
}

impl Layout {
    /// The condition, to be put after `WHERE` or `AND`.
    pub fn condition(&self, expr: &Expr) -> Result<Sql, QueryError> {
        Ok(match expr {
            Expr::And(all) => self.join(all, " AND ", "true")?,
            Expr::Or(any) => self.join(any, " OR ", "false")?,
            Expr::Not(inner) => Sql::new("(NOT ").part(self.condition(inner)?).then(")"),
            Expr::Text(needle) => self.text(needle),
            Expr::Term(term) => {
                let test = match (self.column)(&term.key) {
                    Some(field) => Self::test(field, &term.test),
                    None => self.attribute(&term.key, &term.test)?,
                };
                Sql::new("coalesce(").part(test).then(", false)")
            }
        })
    }

    /// Whether the condition looks at the row's resource.
    pub fn asks_resource(&self, expr: &Expr) -> bool {
        let of_row = |key: &Key| match (self.column)(key) {
            Some(
                Field::Text(sql) | Field::Duration(sql) | Field::Severity(sql) | Field::Bool(sql),
            ) => !sql.contains("r."),
            Some(Field::Either(one, other)) => !one.contains("r.") && !other.contains("r."),
            // An attribute the row lacks is looked for in its resource.
            None => false,
        };
        !expr.terms().iter().all(|term| of_row(&term.key))
    }

    fn join(&self, all: &[Expr], by: &str, none: &str) -> Result<Sql, QueryError> {
        if all.is_empty() {
            return Ok(Sql::new(none));
        }
        let mut sql = Sql::new("(");
        for (n, expr) in all.iter().enumerate() {
            sql = sql.then(if n == 0 { "" } else { by }).part(self.condition(expr)?);
        }
        Ok(sql.then(")"))
    }

    fn text(&self, needle: &str) -> Sql {
        let needle = needle.to_lowercase();
        let mut sql = Sql::new("(false");
        for column in self.texts {
            sql = sql.then(&format!(" OR contains(lower(coalesce({column}, '')), "));
            sql = sql.bind(needle.clone()).then(")");
        }
        if self.attributes {
            sql = sql.then(
                " OR len(list_filter(map_values(t.attributes), lambda x: contains(lower(x), ",
            );
            sql = sql.bind(needle).then("))) > 0");
        }
        sql.then(")")
    }

    /// An attribute: of the row itself, failing that of its resource.
    fn attribute(&self, key: &Key, test: &Test) -> Result<Sql, QueryError> {
        let name = match key {
            Key::Attribute(name) | Key::Resource(name) => name.clone(),
            known => match known.attribute() {
                Some(name) if known.fits(self.view) => name.to_owned(),
                _ => return Err(unknown(key, self.view)),
            },
        };
        let own = self.attributes && !matches!(key, Key::Resource(_));
        if !own && !self.resource {
            return Err(unknown(key, self.view));
        }
        let value = || {
            let mut sql = Sql::new("coalesce(NULL");
            if own {
                sql = sql.then(", t.attributes[").bind(name.clone()).then("]");
            }
            if self.resource {
                sql = sql.then(", r.attributes[").bind(name.clone()).then("]");
            }
            sql.then(")")
        };
        Ok(Self::text_test(value, test))
    }

    fn test(field: Field, test: &Test) -> Sql {
        let column = match field {
            Field::Text(c) => return Self::text_test(|| Sql::new(c), test),
            Field::Either(one, other) => {
                let of = |column| Self::test(Field::Text(column), test);
                return Sql::new("(").part(of(one)).then(" OR ").part(of(other)).then(")");
            }
            Field::Duration(c) | Field::Severity(c) | Field::Bool(c) => c,
        };
        match (field, test) {
            (_, Test::Has) => Sql::new(format!("{column} IS NOT NULL")),
            (Field::Severity(_), Test::Any(values)) => any(values, |value| match value {
                Value::Level(l) => Some(
                    Sql::new(format!("{column} BETWEEN "))
                        .bind(l.lowest())
                        .then(" AND ")
                        .bind(l.highest()),
                ),
                _ => None,
            }),
            (_, Test::Any(values)) => any(values, |value| match (field, value) {
                (Field::Duration(_), Value::Duration(ns)) => {
                    Some(Sql::new(format!("{column} = ")).bind(*ns))
                }
                (Field::Bool(_), Value::Bool(b)) => Some(Sql::new(format!("{column} = ")).bind(*b)),
                _ => None,
            }),
            (Field::Severity(_), Test::Range(range)) => {
                // Severity 0 says nothing about a level.
                Sql::new(format!("{column} BETWEEN 1 AND 24 AND ")).part(bounds(
                    column,
                    range,
                    |s, low| match s {
                        Scalar::Level(l) => Some(duckdb::types::Value::from(if low {
                            l.lowest()
                        } else {
                            l.highest()
                        })),
                        _ => None,
                    },
                ))
            }
            (Field::Duration(_), Test::Range(range)) => bounds(column, range, |s, _| match s {
                Scalar::Duration(ns) => Some(duckdb::types::Value::from(ns)),
                _ => None,
            }),
            // A pattern over durations or booleans would test how they are printed.
            (_, Test::Range(_) | Test::Matches(_)) => Sql::new("false"),
        }
    }

    fn text_test(value: impl Fn() -> Sql, test: &Test) -> Sql {
        match test {
            Test::Has => value().then(" IS NOT NULL"),
            Test::Any(values) => {
                let mut sql = value().then(" IN (");
                for (n, v) in values.iter().enumerate() {
                    let text = match v {
                        Value::Text(text) => text.clone(),
                        Value::Bool(b) => b.to_string(),
                        Value::Level(l) => l.word().to_owned(),
                        Value::Duration(ns) => ns.to_string(),
                    };
                    sql = sql.then(if n == 0 { "" } else { ", " }).bind(text);
                }
                sql.then(")")
            }
            Test::Matches(pattern) => Sql::new("regexp_matches(")
                .part(value())
                .then(", ")
                .bind(pattern.source().to_owned())
                .then(")"),
            Test::Range(range) => {
                let number = || Sql::new("TRY_CAST(trim(").part(value()).then(") AS DOUBLE)");
                // DuckDB sorts NaN above all numbers; to a filter it is not a number.
                let mut sql = Sql::new("(NOT isnan(").part(number()).then(")");
                for (bound, ops) in [(range.from, (" >= ", " > ")), (range.to, (" <= ", " < "))] {
                    let (op, scalar) = match bound {
                        Bound::Unbounded => continue,
                        Bound::Included(s) => (ops.0, s),
                        Bound::Excluded(s) => (ops.1, s),
                    };
                    let Scalar::Number(x) = scalar else { return Sql::new("false") };
                    sql = sql.then(" AND ").part(number()).then(op).bind(x);
                }
                sql.then(")")
            }
        }
    }
}

fn any(values: &[Value], one: impl Fn(&Value) -> Option<Sql>) -> Sql {
    let mut sql = Sql::new("(false");
    for part in values.iter().filter_map(one) {
        sql = sql.then(" OR ").part(part);
    }
    sql.then(")")
}

/// Bounds of a numeric column; `value` gives a bound's value, told whether it stands for the lowest.
fn bounds(
    column: &str,
    range: &Range,
    value: impl Fn(Scalar, bool) -> Option<duckdb::types::Value>,
) -> Sql {
    let mut sql = Sql::new("(true");
    // An excluded bound of a level lies beyond its other end: `> warn` begins after warn's highest.
    let sides = [(range.from, " >= ", " > ", true), (range.to, " <= ", " < ", false)];
    for (bound, included, excluded, low) in sides {
        let (op, found) = match bound {
            Bound::Unbounded => continue,
            Bound::Included(s) => (included, value(s, low)),
            Bound::Excluded(s) => (excluded, value(s, !low)),
        };
        let Some(found) = found else { return Sql::new("false") };
        sql = sql.then(&format!(" AND {column}{op}")).bind(found);
    }
    sql.then(")")
}
