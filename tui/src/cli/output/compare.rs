//! Before, now and the difference, with a mark where chance does not explain it.

use coral_model::text::duration as dur;
use coral_model::view::{Baseline, Quantity, Shift};

use super::cell::{self, Cell, Look};
use super::table::{Column, number, whole};

/// What stands beside a difference that is no chance.
const MARK: &str = "*";

/// Whether any of these was compared.
pub fn any<'a>(mut baselines: impl Iterator<Item = Option<&'a Baseline>>) -> bool {
    baselines.any(|b| b.is_some_and(|b| !b.shifts.is_empty()))
}

/// Columns behind those that say what a row is about.
pub fn columns() -> Vec<Column> {
    vec![
        whole("BUILDS"),
        number("RATE"),
        number("WAS").extra(),
        number("ERR"),
        number("WAS"),
        number("±"),
        number("P50").extra(),
        number("WAS").extra(),
        number("±").extra(),
        number("P99"),
        number("WAS"),
        number("±"),
    ]
}

/// Cells in the order of [`columns`]; without a comparison, none.
pub fn cells(baseline: Option<&Baseline>) -> Vec<Cell> {
    let Some(baseline) = baseline else { return vec![Cell::none(); columns().len()] };
    let builds = baseline.versions.as_ref().map(|v| format!("{}→{}", v.from, v.to));
    let shift = |what| baseline.shifts.iter().find(|s| s.what == what);
    let mut out = vec![Cell::from(builds.unwrap_or_default())];
    for what in [Quantity::Rate, Quantity::Errors, Quantity::P50, Quantity::P99] {
        let shift = shift(what);
        out.push(value(what, shift.and_then(|s| s.now)));
        out.push(value(what, shift.and_then(|s| s.before)).look(Look::Dim));
        if what != Quantity::Rate {
            out.push(delta(what, shift));
        }
    }
    out
}

fn value(what: Quantity, x: Option<f64>) -> Cell {
    let Some(x) = x else { return Cell::none() };
    Cell::from(match what {
        Quantity::Rate => cell::rate(x),
        Quantity::Errors => cell::percent(x),
        Quantity::P50 | Quantity::P99 => dur(coral_model::num::u64_from_f64(x)),
    })
}

fn delta(what: Quantity, shift: Option<&Shift>) -> Cell {
    let Some((shift, delta)) = shift.and_then(|s| Some((s, s.delta?))) else {
        return Cell::none();
    };
    let size = match what {
        Quantity::Errors => format!("{:.1}pt", delta.abs() * 100.0),
        _ => dur(coral_model::num::u64_from_f64(delta.abs())),
    };
    let sign = if delta < 0.0 { "-" } else { "+" };
    if !shift.significant {
        // Never tested is not the same as tested and found to be chance, but neither is a mark.
        return Cell::from(format!("{sign}{size} ")).look(Look::Dim);
    }
    let look = if delta > 0.0 { Look::Bad } else { Look::Good };
    Cell::from(format!("{sign}{size}{MARK}")).look(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_only_beside_what_is_no_chance() {
        let shift = |p_value, significant| Shift {
            what: Quantity::Errors,
            before: Some(0.01),
            now: Some(0.03),
            delta: Some(0.02),
            p_value,
            significant,
        };
        assert_eq!(delta(Quantity::Errors, Some(&shift(Some(1e-9), true))).text, "+2.0pt*");
        assert_eq!(delta(Quantity::Errors, Some(&shift(None, false))).text, "+2.0pt ");
        assert_eq!(delta(Quantity::P99, None).text, "–");
        assert_eq!(cells(None).len(), columns().len());
    }
}
