//! Which labels a metric has, and their values.

use coral_model::num::{i64_sat, u64_sat};
use coral_model::view::{LabelRow, LabelValue};

use super::{LAYOUT, from};
use crate::query::QueryError;
use crate::query::fetch::{self, Sql};
use crate::query::plan::Plan;
use crate::store::Reading;

/// Values of one label that are handed out.
const VALUES: usize = 100;

/// A row per label, those of most series first.
pub fn labels(conn: &Reading<'_>, plan: &Plan, metric: &str) -> Result<Vec<LabelRow>, QueryError> {
    let window = plan.window;
    let series = Sql::new(
        "SELECT any_value(t.attributes) AS attributes, any_value(t.service) AS service, \
         any_value(r.instance) AS instance, any_value(r.host) AS host",
    )
    .then(&from(conn, window.from, window.to))
    .within("t.time_ns", window.from, window.to)
    .then(" AND t.metric = ")
    .bind(metric.to_owned())
    .then(" AND ")
    .part(LAYOUT.condition(&plan.filter)?)
    .then(" GROUP BY hash(t.resource, t.attributes)");
    let sql = Sql::new("WITH s AS MATERIALIZED (")
        .part(series)
        .then(
            "), pairs AS (SELECT unnest(map_keys(attributes)) AS k, unnest(map_values(attributes)) AS v FROM s \
             UNION ALL SELECT 'service', service FROM s WHERE service IS NOT NULL \
             UNION ALL SELECT 'instance', instance FROM s WHERE instance IS NOT NULL \
             UNION ALL SELECT 'host', host FROM s WHERE host IS NOT NULL), \
             counted AS (SELECT k, v, count(*)::UBIGINT AS n FROM pairs GROUP BY ALL) \
             SELECT k, v, n, sum(n) OVER (PARTITION BY k)::UBIGINT AS series, \
             count(*) OVER (PARTITION BY k)::UBIGINT AS different FROM counted \
             QUALIFY row_number() OVER (PARTITION BY k ORDER BY n DESC, v) <= ",
        )
        .bind(i64_sat(VALUES))
        .then(" ORDER BY series DESC, k, n DESC, v");
    let mut rows: Vec<LabelRow> = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (label, value, n) = (batch.texts(0)?, batch.texts(1)?, batch.u64s(2)?);
        let (series, different) = (batch.u64s(3)?, batch.u64s(4)?);
        for row in 0..batch.len() {
            let name = fetch::text(label, row).unwrap_or_default();
            if rows.last().is_none_or(|last| last.label != name) {
                rows.push(LabelRow {
                    metric: metric.to_owned(),
                    label: name.to_owned(),
                    series: fetch::uint(series, row),
                    values: fetch::uint(different, row),
                    top: Vec::new(),
                });
            }
            if let Some(last) = rows.last_mut() {
                let value = fetch::text(value, row).unwrap_or_default().to_owned();
                last.top.push(LabelValue { value, series: fetch::uint(n, row) });
            }
        }
        Ok(())
    })?;
    debug_assert!(rows.iter().all(|r| u64_sat(r.top.len()) <= r.values));
    Ok(rows)
}
