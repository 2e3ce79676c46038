//! What could be typed next in a statement: views, their columns, functions, SQL's own words.

use std::collections::BTreeMap;

use coral_model::filter::closest;
use coral_model::view::Row;

/// The views a statement may read, as `docs/sql.md` lists them.
pub const VIEWS: [&str; 9] =
    ["spans", "logs", "metrics", "red", "edges", "events", "resources", "hosts", "inflight"];

/// What Coral adds, and what is used most.
const FUNCTIONS: [&str; 24] = [
    "window_from()",
    "window_to()",
    "time_of(",
    "trace_hex(trace_hi, trace_lo)",
    "span_hex(",
    "count(*)",
    "sum(",
    "avg(",
    "min(",
    "max(",
    "median(",
    "quantile_cont(",
    "approx_count_distinct(",
    "arg_max(",
    "coalesce(",
    "contains(",
    "lower(",
    "regexp_matches(",
    "regexp_extract(",
    "round(",
    "time_bucket(",
    "unnest(",
    "list(",
    "length(",
];

const KEYWORDS: [&str; 35] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "GROUP BY ALL",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "DISTINCT",
    "COUNT",
    "JOIN",
    "LEFT JOIN",
    "USING",
    "ON",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "IS NULL",
    "IS NOT NULL",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "WITH",
    "UNION ALL",
    "DESC",
    "FILTER",
    "OVER",
    "DESCRIBE",
];

/// Columns by view.
#[derive(Default)]
pub struct Columns(BTreeMap<String, Vec<String>>);

/// The statement that lists the columns of every view.
#[must_use]
pub fn question() -> String {
    let parts: Vec<String> = VIEWS
        .iter()
        .map(|view| format!("SELECT '{view}' AS view, column_name AS name FROM (DESCRIBE {view})"))
        .collect();
    parts.join(" UNION ALL ")
}

impl Columns {
    /// From the answer to [`question`].
    #[must_use]
    pub fn of(rows: &[Row]) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            let Row::Sql(row) = row else { continue };
            let text = |key: &str| row.values.get(key).and_then(|v| v.as_str());
            if let (Some(view), Some(name)) = (text("view"), text("name")) {
                all.entry(view.to_owned()).or_default().push(name.to_owned());
            }
        }
        Self(all)
    }
}

/// Words that begin with `prefix`, those of the views in `statement` first, then those that it may
/// be a slip of, the nearest first; nothing for nothing.
#[must_use]
pub fn matching(prefix: &str, statement: &str, columns: &Columns, most: usize) -> Vec<String> {
    if prefix.is_empty() {
        return Vec::new();
    }
    let lower = prefix.to_lowercase();
    let words: Vec<String> = statement
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .map(str::to_lowercase)
        .collect();
    let named = |view: &str| words.iter().any(|word| word == view);
    let own = columns.0.iter().filter(|(view, _)| named(view)).flat_map(|(_, names)| names);
    let others = columns.0.iter().filter(|(view, _)| !named(view)).flat_map(|(_, names)| names);
    let mut found: Vec<String> = Vec::new();
    // Columns of other views come last: the FROM may still be to come.
    let all: Vec<&str> = own
        .map(String::as_str)
        .chain(VIEWS)
        .chain(FUNCTIONS)
        .chain(KEYWORDS)
        .chain(others.map(String::as_str))
        .collect();
    for word in &all {
        let begins = word.to_lowercase().starts_with(&lower) && *word != prefix;
        if begins && !found.iter().any(|f| f.eq_ignore_ascii_case(word)) {
            found.push((*word).to_owned());
            if found.len() >= most {
                return found;
            }
        }
    }
    // A function is called by what stands before its parenthesis.
    let called = |word: &&'_ str| word.split('(').next().unwrap_or_default().to_lowercase();
    let names: Vec<String> = all.iter().map(called).collect();
    if names.contains(&lower) {
        return found;
    }
    for near in closest(&lower, names.iter().map(String::as_str), most) {
        let word = all.iter().zip(&names).find(|(_, name)| *name == near).map(|(word, _)| *word);
        let new = |word: &&str| !found.iter().any(|f| f.eq_ignore_ascii_case(word));
        if let Some(word) = word.filter(new).filter(|_| found.len() < most) {
            found.push(word.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns(
            [
                ("spans".to_owned(), vec!["service".to_owned(), "start_ns".to_owned()]),
                ("logs".to_owned(), vec!["service".to_owned(), "severity".to_owned()]),
            ]
            .into(),
        )
    }

    #[test]
    fn columns_of_the_views_that_are_named_come_first() {
        let found = matching("se", "select se from logs", &columns(), 9);
        assert_eq!(found[..3], ["service", "severity", "SELECT"]);
        let found = matching("s", "select s", &columns(), 30);
        assert!(
            found.iter().position(|w| w == "spans") < found.iter().position(|w| w == "start_ns")
        );
        assert!(matching("", "select ", &columns(), 9).is_empty());
        assert_eq!(matching("GRO", "", &columns(), 1), ["GROUP"]);
    }

    #[test]
    fn a_slip_is_offered_what_it_may_mean_nearest_first() {
        let found = matching("cout", "select cout", &columns(), 9);
        assert_eq!(found.first().map(String::as_str), Some("count(*)"), "{found:?}");
        let found = matching("sevrice", "select sevrice from spans", &columns(), 9);
        assert_eq!(found, ["service"]);
        // What is right already is no slip.
        assert!(!matching("sum", "select sum", &columns(), 9).contains(&"min(".to_owned()));
    }
}
