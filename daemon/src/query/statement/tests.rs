//! What runs, what does not, and what becomes of the colony when somebody tries.

use std::sync::Arc;
use std::time::Duration;

use coral_model::question::{Question, View};
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{Row, SqlColumns, SqlRow};
use serde_json::{Value, json};

use super::super::fixture::{Fixture, Span, ago, last};
use super::super::{Context, QueryError};
use crate::store::{Batch, Options, Store};

fn ask(text: &str) -> Question {
    Question { subject: Some(text.to_owned()), ..Question::new(View::Sql, last(900)) }
}

fn shop() -> Fixture {
    let fixture = Fixture::default();
    fixture.resource(1, "payments", ["p-1", "web-1", "v42"], ago(500));
    let mut span = Span::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 7, 0, ago(100), 5_000);
    span.attributes = vec![("user.id".to_owned(), "ada".to_owned())];
    let mut child = Span::new(span.trace, 8, 7, ago(99), 1_000);
    child.error = true;
    fixture.spans(&[span.of("payments", "POST /charge"), child.of("payments", "INSERT")]);
    fixture.run(
        "CREATE TABLE meta(key VARCHAR, value VARCHAR); INSERT INTO meta VALUES ('secret', 'hunter2')",
    );
    fixture
}

fn rows(fixture: &Fixture, text: &str) -> (SqlColumns, Vec<SqlRow>) {
    let answer = fixture.ask(&ask(text)).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let mut all = answer.rows.into_iter();
    let Some(Row::SqlColumns(head)) = all.next() else { panic!("no columns") };
    let rows: Vec<SqlRow> = all
        .map(|r| match r {
            Row::Sql(row) => *row,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answer.end.rows, rows.len() as u64);
    (*head, rows)
}

fn one(fixture: &Fixture, text: &str) -> Value {
    let (head, rows) = rows(fixture, text);
    rows[0].values[&head.columns[0].name].clone()
}

#[test]
fn values_keep_their_types_and_columns_their_order() {
    let fixture = shop();
    let (head, rows) = rows(
        &fixture,
        "SELECT operation, trace_hex(trace_hi, trace_lo) AS trace, span_hex(parent_id) AS parent, \
         duration_ns, error, attributes, time_of(start_ns) AS at, 1.5 AS x, 1 AS n, 2 AS n \
         FROM spans ORDER BY start_ns;",
    );
    let names: Vec<_> = head.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "operation",
            "trace",
            "parent",
            "duration_ns",
            "error",
            "attributes",
            "at",
            "x",
            "n",
            "n_2"
        ]
    );
    assert_eq!(head.columns[3].kind, "BIGINT");
    assert_eq!(head.columns[5].kind, "MAP(VARCHAR, VARCHAR)");
    assert_eq!(head.columns[6].kind, "TIMESTAMP WITH TIME ZONE");
    let values = &rows[0].values;
    assert_eq!(values["operation"], "POST /charge");
    assert_eq!(values["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(values["parent"], Value::Null);
    assert_eq!(values["duration_ns"], 5_000);
    assert_eq!(values["error"], false);
    assert_eq!(values["attributes"], json!({"user.id": "ada"}));
    assert_eq!(values["at"], ago(100).to_string());
    assert_eq!((&values["n"], &values["n_2"]), (&json!(1), &json!(2)));
    assert_eq!(rows[1].values["parent"], "0000000000000007");
    let of = |text: &str| one(&fixture, text);
    assert_eq!(of("SELECT sum(duration_ns) FROM spans"), 6_000);
    assert_eq!(of("SELECT 18446744073709551615::UBIGINT"), u64::MAX);
    assert_eq!(of("SELECT 99999999999999999999999999::HUGEINT"), "99999999999999999999999999");
    assert_eq!(of("SELECT 'nan'::DOUBLE"), "NaN");
    assert_eq!(of("SELECT [1, NULL, 3]"), json!([1, null, 3]));
    assert_eq!(of("SELECT {'a': 1, 'b': [true]}"), json!({"a": 1, "b": [true]}));
    assert_eq!(of("SELECT DATE '2026-11-22'"), "2026-11-22");
    assert_eq!(of("SELECT TIMESTAMP '2026-11-22 14:00:00'"), "2026-11-22T14:00:00");
    assert_eq!(of("SELECT 12.50::DECIMAL(9, 2)"), "12.50");
    assert_eq!(of("SELECT '\\xFF\\x00'::BLOB"), "ff00");
    assert_eq!(of("SELECT window_to() - window_from()"), 900 * SECOND);
}

#[test]
fn what_people_write_runs() {
    let fixture = shop();
    for text in [
        "FROM spans",
        "TABLE spans",
        "VALUES (1), (2)",
        "select count(*) from SPANS",
        "DESCRIBE spans",
        "SUMMARIZE logs",
        "WITH a AS (SELECT 1 AS x), b AS MATERIALIZED (SELECT * FROM a) SELECT * FROM b, A",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t",
        "WITH spans AS (SELECT * FROM spans) SELECT * FROM spans",
        "SELECT * FROM spans s JOIN resources r ON r.id = s.resource LEFT JOIN logs l ON l.service = s.service",
        "SELECT * FROM spans, LATERAL (SELECT duration_ns * 2) d(x) WHERE EXISTS (SELECT 1 FROM events)",
        "SELECT service, count(*) FILTER (error), quantile_cont(duration_ns, 0.99) FROM spans GROUP BY ALL HAVING count(*) > 0 ORDER BY ALL LIMIT 5 OFFSET 0",
        "SELECT row_number() OVER (PARTITION BY service ORDER BY start_ns), lag(duration_ns) OVER w FROM spans WINDOW w AS (ORDER BY start_ns)",
        "SELECT * EXCLUDE (attributes) REPLACE (1 AS kind) FROM spans QUALIFY row_number() OVER () = 1",
        "SELECT COLUMNS('d.*') FROM spans",
        "SELECT CASE WHEN error THEN 'bad' ELSE 'good' END, coalesce(name, operation), duration_ns BETWEEN 1 AND 2, service IN ('a'), service LIKE 'p%', service ~ 'p.*', service ILIKE 'P%', -duration_ns, NOT error FROM spans",
        "SELECT attributes['user.id'], map_keys(attributes), list_transform([1, 2], lambda x: x + 1), [x * 2 FOR x IN [1, 2] IF x > 1], [1, 2, 3][1:2], {'a': 1}.a FROM spans",
        "SELECT unnest(map_entries(attributes)) FROM spans",
        "SELECT * FROM unnest([1, 2]) t(x), range(3), generate_series(1, 2)",
        "SELECT time_bucket(INTERVAL 1 minute, time_of(start_ns)), avg(duration_ns) FROM spans WHERE start_ns >= window_from() AND start_ns < window_to() GROUP BY 1",
        "SELECT extract(hour FROM time_of(start_ns)), date_trunc('hour', time_of(start_ns)), now() - INTERVAL 5 minutes, current_date, time_of(start_ns) AT TIME ZONE 'Europe/Berlin' FROM spans",
        "SELECT trim(BOTH ' ' FROM ' x '), substring('abc' FROM 1 FOR 2), 'a' || 'b', CAST('1' AS INTEGER), TRY_CAST('x' AS INTEGER), '2'::BIGINT",
        "SELECT string_agg(service, ',' ORDER BY start_ns), list(DISTINCT service), arg_max(operation, duration_ns), any_value(kind), count(DISTINCT service) FROM spans",
        "SELECT service FROM spans UNION ALL SELECT service FROM logs INTERSECT SELECT 'payments' EXCEPT SELECT 'x'",
        "FROM (PIVOT spans ON kind IN (1, 2) USING count(*) GROUP BY service)",
        "SELECT * FROM spans USING SAMPLE 10%",
        "SELECT GROUPING(service), sum(duration_ns) FROM spans GROUP BY ROLLUP (service)",
        "SELECT (SELECT max(duration_ns) FROM spans), duration_ns = ANY (SELECT 1000), ROW(1, 2) FROM spans",
        "SELECT json_extract_string(row, '$.host') FROM hosts",
        "SELECT DISTINCT ON (service) service, start_ns FROM spans ORDER BY service, start_ns DESC NULLS LAST",
        "SELECT sum(requests), hist_index[1] FROM red GROUP BY 2",
        "SELECT /* a comment */ 1 -- another\n FROM inflight",
    ] {
        rows(&fixture, text);
    }
}

/// Statement, and a word its refusal has.
const ESCAPES: &[(&str, &str)] = &[
    // Not a SELECT.
    ("COPY spans TO '/tmp/x'", "only a SELECT"),
    ("COPY (SELECT 1) TO '/tmp/x'", "only a SELECT"),
    ("COPY spans FROM '/etc/passwd'", "only a SELECT"),
    ("ATTACH '/tmp/x.db' AS x", "only a SELECT"),
    ("DETACH x", "only a SELECT"),
    ("SET memory_limit = '100GB'", "only a SELECT"),
    ("RESET memory_limit", "only a SELECT"),
    ("PRAGMA database_list", "SELECT"),
    ("PRAGMA enable_external_access", "only a SELECT"),
    ("INSTALL httpfs", "only a SELECT"),
    ("LOAD '/tmp/x.duckdb_extension'", "only a SELECT"),
    ("EXPORT DATABASE '/tmp/x'", "only a SELECT"),
    ("IMPORT DATABASE '/tmp/x'", "only a SELECT"),
    ("CALL pragma_version()", "only a SELECT"),
    ("INSERT INTO spans SELECT * FROM spans", "only a SELECT"),
    ("UPDATE meta SET value = 'x'", "only a SELECT"),
    ("DELETE FROM meta", "only a SELECT"),
    ("TRUNCATE meta", "only a SELECT"),
    ("CREATE TABLE x(y INTEGER)", "only a SELECT"),
    ("CREATE TABLE x AS SELECT 1", "only a SELECT"),
    ("CREATE MACRO f() AS 1", "only a SELECT"),
    ("CREATE TEMP VIEW spans AS SELECT 1", "only a SELECT"),
    ("DROP TABLE meta", "only a SELECT"),
    ("ALTER TABLE meta ADD COLUMN z INTEGER", "only a SELECT"),
    ("PREPARE x AS SELECT 1", "only a SELECT"),
    ("EXECUTE x", "only a SELECT"),
    ("BEGIN", "only a SELECT"),
    ("COMMIT", "only a SELECT"),
    ("ROLLBACK", "only a SELECT"),
    ("CHECKPOINT", "only a SELECT"),
    ("VACUUM", "only a SELECT"),
    ("USE main", "only a SELECT"),
    ("EXPLAIN ANALYZE SELECT 1", "only a SELECT"),
    ("WITH x AS (INSERT INTO meta VALUES ('a', 'b') RETURNING *) SELECT * FROM x", "SELECT"),
    // More than one.
    ("SELECT 1; SELECT 2", "exactly one"),
    ("SELECT 1; DROP TABLE meta", "SELECT"),
    ("SELECT 1; COMMIT; DELETE FROM meta", "SELECT"),
    (";", "which statement"),
    ("-- nothing", "exactly one"),
    // Tables that are not public, however they are spelled.
    ("SELECT * FROM meta", "`meta` is not a view"),
    ("SELECT * FROM MeTa", "not a view"),
    ("SELECT * FROM \"meta\"", "not a view"),
    ("SELECT * FROM main.meta", "not a view"),
    ("SELECT * FROM main.spans", "not a view"),
    ("SELECT * FROM half_edges", "not a view"),
    ("FROM duckdb_settings", "not a view"),
    ("FROM sqlite_master", "not a view"),
    ("SELECT * FROM information_schema.tables", "not a view"),
    ("SELECT * FROM pg_catalog.pg_tables", "not a view"),
    ("DESCRIBE meta", "not a view"),
    ("SUMMARIZE meta", "not a view"),
    ("SHOW TABLES", "SHOW"),
    ("SHOW ALL TABLES", "SHOW"),
    ("SHOW DATABASES", "SHOW"),
    // Files.
    ("FROM \"/etc/passwd\"", "not a view"),
    ("FROM '/etc/passwd'", "not a view"),
    ("SELECT * FROM '/etc/*.csv'", "not a view"),
    ("SELECT * FROM read_csv('/etc/passwd')", "`read_csv` is not a table function"),
    ("SELECT * FROM read_csv_auto('/etc/passwd')", "not a table function"),
    ("SELECT * FROM read_text('/etc/passwd')", "not a table function"),
    ("SELECT * FROM read_blob('/etc/passwd')", "not a table function"),
    ("SELECT * FROM read_parquet('/tmp/*.parquet')", "not a table function"),
    ("SELECT * FROM parquet_metadata('x')", "not a table function"),
    ("SELECT * FROM read_json('/etc/x')", "not a table function"),
    ("SELECT * FROM sniff_csv('/etc/passwd')", "not a table function"),
    ("SELECT * FROM glob('/etc/*')", "not a table function"),
    // The instance.
    ("SELECT * FROM duckdb_settings()", "not a table function"),
    ("SELECT * FROM duckdb_secrets()", "not a table function"),
    ("SELECT * FROM pragma_database_list()", "not a table function"),
    ("SELECT * FROM query('SELECT * FROM meta')", "not a table function"),
    ("SELECT * FROM query_table('meta')", "not a table function"),
    ("SELECT * FROM json_execute_serialized_sql('{}')", "not a table function"),
    ("SELECT getenv('HOME')", "not a function"),
    ("SELECT current_setting('memory_limit')", "not a function"),
    ("SELECT system.main.current_setting('memory_limit')", "not a function"),
    ("SELECT x.abs(1) FROM spans", "not a function"),
    ("SELECT nextval('s')", "not a function"),
    ("SELECT write_log('x')", "not a function"),
    ("SELECT pg_sleep(100), sleep_ms(100)", "not a function"),
    ("SELECT current_query()", "not a function"),
    ("SELECT ('x').getenv()", "not a function"),
    // Values of any size out of a number.
    ("SELECT repeat('x', 4000000000)", "not a function"),
    ("SELECT lpad('x', 900000000, 'y')", "not a function"),
    ("SELECT range(1000000000)", "it can stand in FROM"),
    ("SELECT format('{:2000000000d}', 1)", "not a function"),
    ("SELECT list_resize([1], 1000000000)", "not a function"),
    // Nested.
    ("WITH x AS (SELECT * FROM meta) SELECT * FROM x", "not a view"),
    ("WITH x AS (SELECT * FROM meta), meta AS (SELECT 1) SELECT * FROM x", "not a view"),
    ("WITH meta AS (SELECT * FROM meta) SELECT * FROM meta", "not a view"),
    ("WITH meta AS (SELECT 1) SELECT * FROM meta", "the store has that name"),
    (
        "WITH RECURSIVE m AS (SELECT * FROM meta UNION ALL SELECT * FROM m) SELECT * FROM m",
        "not a view",
    ),
    ("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x), x", "`x` is not a view"),
    ("SELECT (SELECT value FROM meta)", "not a view"),
    ("SELECT * FROM spans WHERE service IN (SELECT value FROM meta)", "not a view"),
    (
        "SELECT * FROM spans, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
        "not a table function",
    ),
    (
        "SELECT CASE WHEN true THEN (SELECT content FROM read_text('/etc/passwd')) END",
        "not a table",
    ),
    ("SELECT 1 UNION ALL SELECT getenv('HOME')", "not a function"),
    ("SELECT count(*) FILTER (getenv('HOME') = '') FROM spans", "not a function"),
    ("SELECT sum(1) OVER (ORDER BY getenv('HOME')) FROM spans", "not a function"),
    ("SELECT 1 ORDER BY (SELECT value FROM meta)", "not a view"),
    ("SELECT 1 LIMIT (SELECT 1 FROM meta)", "not a view"),
    ("SELECT * FROM range((SELECT 1 FROM meta))", "not a view"),
    ("SELECT list_transform([1], lambda x: getenv('HOME'))", "not a function"),
    ("SELECT 1 FROM spans GROUP BY getenv('HOME')", "not a function"),
    ("SELECT 1 FROM spans HAVING getenv('HOME') = ''", "not a function"),
    ("SELECT 1 FROM spans QUALIFY getenv('HOME') = ''", "not a function"),
    ("SELECT * FROM spans JOIN logs ON getenv('HOME') = ''", "not a function"),
    ("SELECT * REPLACE (getenv('HOME') AS service) FROM spans", "not a function"),
    ("SELECT COLUMNS(c -> getenv('HOME') = '') FROM spans", "not a function"),
    ("FROM (PIVOT meta ON key IN ('secret') USING first(value))", "not a view"),
    ("VALUES ((SELECT value FROM meta))", "not a view"),
    ("DESCRIBE SELECT getenv('HOME')", "not a function"),
    ("SELECT DISTINCT ON (getenv('HOME')) 1", "not a function"),
    ("SELECT string_agg('x', ',' ORDER BY getenv('HOME'))", "not a function"),
];

#[test]
fn nothing_escapes() {
    let fixture = shop();
    let before: String = fixture
        .conn
        .query_row("SELECT string_agg(key || value) FROM meta", [], |row| row.get(0))
        .unwrap();
    for (text, word) in ESCAPES {
        let error = fixture.ask(&ask(text)).expect_err(text);
        assert!(error.is_usage(), "{text}: {error}");
        let said = error.to_string();
        assert!(said.contains(word), "{text}\n{said}");
        assert!(!said.contains("root:") && !said.contains("hunter2"), "{text}\n{said}");
    }
    let after: String = fixture
        .conn
        .query_row("SELECT string_agg(key || value) FROM meta", [], |row| row.get(0))
        .unwrap();
    assert_eq!(before, after);
    // Even past the check, the transaction writes nothing, and is over afterwards.
    fixture.run("BEGIN TRANSACTION READ ONLY");
    assert!(fixture.conn.execute_batch("INSERT INTO meta VALUES ('a', 'b')").is_err());
    fixture.run("ROLLBACK");
    rows(&fixture, "SELECT 1");
    fixture.run("INSERT INTO meta VALUES ('a', 'b')");
}

#[test]
fn refusals_show_the_place_and_what_is_allowed() {
    let fixture = shop();
    let said = |text: &str| fixture.ask(&ask(text)).unwrap_err().to_string();
    assert_eq!(
        said("SELECT 1\nFROM secrets"),
        "this statement is not one that Coral runs\n  FROM secrets\n       ^ `secrets` is not a view that \
         can be read\n  hint: the views are spans logs metrics red edges events resources hosts inflight"
    );
    assert!(said("SELEC 1").contains("\n  SELEC 1\n  ^ syntax error"), "{}", said("SELEC 1"));
    let binder = said("SELECT nosuch FROM spans");
    assert!(
        binder.contains("nosuch") && binder.contains("LINE 1") && binder.contains('^'),
        "{binder}"
    );
    assert!(said("SELECT lenght('x')").contains("did you mean `length`?"));
    let deep = format!("SELECT {}1{}", "(SELECT ".repeat(200), ")".repeat(200));
    assert!(!said(&deep).is_empty());
    assert!(said(&format!("SELECT '{}'", "x".repeat(70_000))).contains("at most"));
    assert!(!said("SELECT '\x1b[2J' FROM nope").contains('\x1b'));
    assert!(
        said("SELECT 1 / 0 FROM spans WHERE service::INTEGER = 1").contains("Could not convert")
    );
}

#[test]
fn rows_are_capped_and_the_cap_is_said() {
    let fixture = shop();
    let mut question = ask("SELECT * FROM range(1000000000000)");
    question.limit = 3;
    let answer = fixture.ask(&question).unwrap();
    assert_eq!((answer.end.rows, answer.end.truncated), (3, true));
    question.subject = Some("SELECT * FROM range(3)".into());
    let answer = fixture.ask(&question).unwrap();
    assert_eq!((answer.end.rows, answer.end.truncated), (3, false));
}

/// A statement that asks for too much time or memory ends; commits go on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_statement_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(Arc::default());
    options.memory_bytes = 96 << 20;
    options.temp_bytes = 32 << 20;
    options.read_timeout = Duration::from_secs(3);
    let store = Store::open(dir.path(), options).unwrap();
    let context = Context {
        live: Arc::clone(store.live()),
        store,
        agents: Arc::default(),
        counters: Arc::default(),
        now: Time::now(),
    };
    for (text, slow) in [
        ("SELECT count(*) FROM range(10000000) a, range(10000000) b, range(1000000) c", true),
        ("SELECT list(a.range) FROM range(1000000) a, range(100000) b", false),
        (
            "SELECT count(DISTINCT a.range * 1000000 + b.range) FROM range(100000) a, range(100000) b",
            false,
        ),
        (
            "SELECT a.range FROM range(100000) a, range(100000) b ORDER BY hash(a.range + b.range)",
            false,
        ),
    ] {
        let mut question = ask(text);
        question.window = Window::before(context.now, 900 * SECOND);
        let asked = tokio::spawn({
            let context = context.clone();
            async move { super::super::answer(&context, &question).await }
        });
        for _ in 0..5 {
            context.store.commit(Batch { bytes: 10, ..Batch::default() }).await.unwrap();
        }
        let error = asked.await.unwrap().unwrap_err();
        match (slow, &error) {
            (true, QueryError::TooSlow(3)) => {}
            // A slow machine may not get as far as the memory's end.
            (false, QueryError::TooLarge | QueryError::TooSlow(3)) => {}
            _ => panic!("{text}: {error}"),
        }
        context.store.commit(Batch { bytes: 10, ..Batch::default() }).await.unwrap();
    }
    let mut question = ask("SELECT count(*) AS n FROM spans");
    question.window = Window::before(context.now, 900 * SECOND);
    let answer = super::super::answer(&context, &question).await.unwrap();
    assert_eq!(answer.end.rows, 1);
}
