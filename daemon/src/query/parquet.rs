//! The records behind a question as a Parquet file.
//!
//! DuckDB writes it, into the store's own folder for unfinished things and under a name made here: no
//! path of anybody else reaches it. The file loses its name as soon as it is open, so nothing is left
//! behind whoever goes away. Rows are those of the store's public views that pass the question's filter
//! and lie in its window, with the properties of their resources beside them; not the rows of the
//! answer, which are made from them.

use std::fs::File;
use std::path::{Path, PathBuf};

use coral_model::Question;
use coral_model::question::View;

use super::context::Context;
use super::fetch::Sql;
use super::plan::Plan;
use super::records::source;
use super::{QueryError, homes};
use crate::store::{DiskRoom, Reading};

/// While the disk is this full, nothing is written that can be done without.
const FULL: u8 = 90;

/// Removes a file that was begun, whatever happens.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// Writes the records of a question; the file has no name any more.
///
/// # Errors
/// The question has no records, the disk is nearly full, or writing takes too long.
pub async fn parquet(context: &Context, question: &Question) -> Result<File, QueryError> {
    let plan = Plan::new(question, context.now)?;
    let folder = context.store.dir().join("tmp");
    if DiskRoom::of(&folder).is_some_and(|room| room.percent() >= FULL) {
        return Err(QueryError::Store(format!(
            "the disk of {} is {FULL} % full: nothing is written that can be done without",
            folder.display()
        )));
    }
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(|e| QueryError::Store(e.to_string()))?;
    let path = folder.join(format!("export-{:016x}.parquet", u64::from_le_bytes(name)));
    context.store.read(move |conn| copy(conn, &plan, &path)).await
}

fn copy(conn: &Reading<'_>, plan: &Plan, path: &Path) -> Result<File, QueryError> {
    let unfinished = Unfinished(path.to_owned());
    let sql = statement(conn, plan, path)?;
    let failed = |error: duckdb::Error| QueryError::database(&error, &sql.text);
    let mut statement = conn.prepare(&sql.text).map_err(failed)?;
    statement.execute(duckdb::params_from_iter(sql.values.iter())).map_err(failed)?;
    let file = File::open(&unfinished.0).map_err(|e| QueryError::Store(e.to_string()))?;
    drop(unfinished);
    Ok(file)
}

fn statement(conn: &Reading<'_>, plan: &Plan, path: &Path) -> Result<Sql, QueryError> {
    let (signal, time, layout) = source(plan.question.view)?;
    if plan.question.reach.is_some() {
        return Err(QueryError::Question(
            "records of edges are exported one by one, not by what they reach; leave that out, or \
             name services: service=cart"
                .to_owned(),
        ));
    }
    let (from, to) = (plan.window.from, plan.window.to);
    let relation = conn.relation(signal, from, to);
    let columns = if layout.resource {
        "t.* EXCLUDE (received_ns), r.namespace, r.instance, r.version, r.host, r.zone, \
         r.attributes AS resource_attributes"
    } else {
        "t.* EXCLUDE (received_ns)"
    };
    let mut sql = Sql::new(format!("COPY (SELECT {columns} FROM {relation} t"));
    if layout.resource {
        sql = sql.then(&homes::join(conn));
    }
    let mut sql = sql
        .then(" WHERE true")
        .within(&format!("t.{time}"), from, to)
        .then(" AND ")
        .part(layout.condition(&plan.filter)?);
    if let (View::Metrics, Some(metric)) = (plan.question.view, &plan.question.subject) {
        sql = sql.then(" AND t.metric = ").bind(metric.clone());
    }
    if let (View::Trace, Some(id)) = (plan.question.view, &plan.question.subject) {
        let (hi, lo) = id.parse().map(super::fetch::halves).map_err(|_| {
            QueryError::Question("a trace is exported by its whole id of 32 hex digits".into())
        })?;
        sql = sql.then(" AND t.trace_hi = ").bind(hi).then(" AND t.trace_lo = ").bind(lo);
    }
    // The path is of our own making; quotes in the folder's name are doubled all the same.
    let path = path.display().to_string().replace('\'', "''");
    Ok(sql.then(&format!(
        " ORDER BY t.{time}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 61440)"
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use coral_model::time::MILLI;

    use coral_model::view::NodeKind;

    use super::super::fixture::{EdgeRow, Fixture, Span, ago, last, question};
    use super::*;

    /// The rows of what would be handed out, as counts of a column's values.
    fn exported(
        fixture: &Fixture,
        view: View,
        filter: &str,
        column: &str,
    ) -> BTreeMap<String, u64> {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(&question(view, last(900), filter), fixture.now).unwrap();
        let conn = Reading::of_views(&fixture.conn);
        let path = dir.path().join("export.parquet");
        let mut file = copy(&conn, &plan, &path).unwrap();
        assert!(!path.exists(), "the file keeps no name");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        let copied = dir.path().join("copy.parquet");
        std::fs::write(&copied, bytes).unwrap();
        let sql = format!(
            "SELECT {column}::VARCHAR, count(*)::UBIGINT FROM read_parquet('{}') GROUP BY 1",
            copied.display()
        );
        let mut statement = fixture.conn.prepare(&sql).unwrap();
        let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn what_passes_is_in_the_file_and_nothing_else() {
        let fixture = Fixture::default();
        fixture.resource(1, "shop", ["i1", "web-1", "it's v41"], ago(5_000));
        let spans: Vec<Span> = (1..=100u64)
            .map(|n| {
                let mut span = Span::new(u128::from(n), n, 0, ago(800 - n), n * MILLI);
                span.error = n % 4 == 0;
                span.of("shop", if n % 2 == 0 { "GET 'x'" } else { "POST /y" })
            })
            .collect();
        fixture.spans(&spans);
        fixture.spans(&[Span::new(999, 1, 0, ago(5_000), MILLI)]);
        let of = |filter: &str, column: &str| exported(&fixture, View::Traces, filter, column);
        assert_eq!(of("", "operation").values().sum::<u64>(), 100);
        assert_eq!(
            of("operation=\"GET 'x'\" error=true", "error"),
            [("true".to_owned(), 25)].into()
        );
        assert_eq!(of("version=\"it's v41\" duration=..10ms", "version")["it's v41"], 10);
        assert_eq!(of("res.host.name=web-1", "resource_attributes['host.name']")["web-1"], 100);
        assert!(of("service=nobody", "service").is_empty());
        let error = source(View::Digest).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("traces (spans)"), "{error}");
    }

    #[test]
    fn edges_are_exported_by_either_end() {
        let fixture = Fixture::default();
        fixture.edges(&[
            EdgeRow::new(ago(100), "web", "cart", &[MILLI]),
            EdgeRow::new(ago(90), "cart", "pay", &[MILLI]),
            EdgeRow { errors: 1, ..EdgeRow::new(ago(90), "web", "pay", &[MILLI]) },
            EdgeRow {
                to: ("cart".to_owned(), NodeKind::Database),
                protocol: "redis",
                ..EdgeRow::new(ago(80), "web", "", &[MILLI])
            },
        ]);
        let of = |filter: &str| exported(&fixture, View::Topology, filter, "from_name || to_name");
        let named = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), 1)).collect();
        assert_eq!(of("").values().sum::<u64>(), 4);
        let of_cart: BTreeMap<String, u64> = named(&["cartpay", "webcart"]);
        assert_eq!(of("service=cart"), of_cart, "a database of that name is no service");
        assert_eq!(
            of("not:service=cart"),
            [("webpay".to_owned(), 1), ("webcart".to_owned(), 1)].into()
        );
        assert_eq!(of("name=cart"), [("webcart".to_owned(), 2), ("cartpay".to_owned(), 1)].into());
        assert_eq!(of("kind=database"), named(&["webcart"]));
        assert_eq!(of("protocol=redis"), named(&["webcart"]));
        assert_eq!(of("error=true"), named(&["webpay"]));
        assert_eq!(of("pay").len(), 2);
    }

    #[test]
    fn no_text_of_a_question_becomes_sql() {
        let fixture = Fixture::default();
        let hostile = "service=\"x') TO '/tmp/coral-stolen.parquet' --\"";
        let plan = Plan::new(&question(View::Logs, last(900), hostile), fixture.now).unwrap();
        let conn = Reading::of_views(&fixture.conn);
        let sql = statement(&conn, &plan, Path::new("/data/it's/tmp/e.parquet")).unwrap();
        assert!(!sql.text.contains("stolen"), "{}", sql.text);
        assert!(sql.text.contains("TO '/data/it''s/tmp/e.parquet'"), "{}", sql.text);
    }
}
