//! Services whose processes die again and again: one that does not come up has no requests that could say so.
//!
//! Read from what agents tell of processes' ends (`restart`, `process_ended`), which they fold: a service's ends within
//! half a minute are one event with a count.

use std::collections::BTreeMap;

use coral_model::time::{SECOND, Time};

use super::QueryError;
use super::fetch::{self, Sql};
use crate::store::Reading;
use crate::store::schema::Signal;

/// So many ends within …
const AGAIN: u64 = 3;
/// … this time, of which the last …
const WITHIN: u64 = 180 * SECOND;
/// … lies no longer back than this, are a service that keeps dying.
const LATELY: u64 = 75 * SECOND;

/// What is known of a service whose processes keep dying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deaths {
    /// How many have.
    pub count: u64,
    /// When the first of them was told.
    pub since: Time,
    /// How the last one did: `died of SIGABRT`.
    pub how: String,
    /// What it said last.
    pub words: Option<String>,
}

/// Services whose processes keep dying, as of then.
pub fn of(conn: &Reading<'_>, at: Time) -> Result<BTreeMap<String, Deaths>, QueryError> {
    let from = at.minus(WITHIN);
    let sql = Sql::new(format!(
        "SELECT time_ns, service, text, attributes FROM {} \
         WHERE kind IN ('restart', 'process_ended') AND service IS NOT NULL",
        conn.relation(Signal::Events, from, at)
    ))
    .within("time_ns", from, at)
    .then(" ORDER BY time_ns");
    let mut found: BTreeMap<String, (Deaths, Time)> = BTreeMap::new();
    fetch::run(conn, &sql, |batch| {
        let (times, services) = (batch.i64s(0)?, batch.texts(1)?);
        let (texts, attributes) = (batch.texts(2)?, batch.maps(3)?);
        for row in 0..batch.len() {
            let told = fetch::map(attributes, row);
            let Some(how) = how(&told) else { continue };
            let Some(service) = fetch::owned(services, row) else { continue };
            let time = fetch::time(times, row);
            let n = told.get("count").and_then(|n| n.parse().ok()).unwrap_or(1);
            let words = fetch::text(texts, row).and_then(words);
            let (deaths, last) = found.entry(service).or_insert_with(|| {
                (Deaths { count: 0, since: time, how: String::new(), words: None }, time)
            });
            deaths.count = deaths.count.saturating_add(n);
            (deaths.how, deaths.words, *last) = (how, words, time);
        }
        Ok(())
    })?;
    let again = |(service, (deaths, last)): (String, (Deaths, Time))| {
        (deaths.count >= AGAIN && at.since(last) <= LATELY).then_some((service, deaths))
    };
    Ok(found.into_iter().filter_map(again).collect())
}

/// How a process ended, where that was a failure: not where it was asked to end, nor where that is not known.
fn how(told: &BTreeMap<String, String>) -> Option<String> {
    let asked = told.contains_key("sender.uid");
    let signal = told.get("signal").map(String::as_str);
    match (told.get("process.exit.code").map(String::as_str), signal) {
        (Some("0"), _) | (None, None) => None,
        (Some(code), None) => Some(format!("exited with {code}")),
        (Some(_), Some(_)) if asked => None,
        (Some(code), Some(_)) => Some(format!("exited with {code}")),
        (None, Some("SIGTERM" | "SIGINT" | "SIGQUIT" | "SIGHUP")) if asked => None,
        (None, Some(signal)) => Some(format!("died of {signal}")),
    }
}

/// What a process said last, in its event's text.
fn words(text: &str) -> Option<String> {
    let (_, said) = text.rsplit_once(" · last said “")?;
    Some(said.trim_end_matches('”').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn who_was_asked_to_end_did_not_die() {
        let of = |pairs: &[(&str, &str)]| how(&told(pairs));
        let asked = ("sender.uid", "0");
        assert_eq!(of(&[("process.exit.code", "3")]).as_deref(), Some("exited with 3"));
        assert_eq!(of(&[("signal", "SIGABRT")]).as_deref(), Some("died of SIGABRT"));
        assert_eq!(of(&[("signal", "SIGKILL"), asked]).as_deref(), Some("died of SIGKILL"));
        assert_eq!(of(&[("process.exit.code", "0")]), None);
        assert_eq!(of(&[("process.exit.code", "143"), ("signal", "SIGTERM"), asked]), None);
        assert_eq!(of(&[("signal", "SIGTERM"), asked]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn what_it_said_is_in_the_text() {
        assert_eq!(words("x restarted · last said “no stock”").as_deref(), Some("no stock"));
        assert_eq!(words("x restarted"), None);
    }
}
