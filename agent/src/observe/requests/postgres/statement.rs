//! What a statement is called: its verb, and the first table it is about.
//!
//! `SELECT orders`, `INSERT payments`, `COMMIT`: OpenTelemetry's `db.query.summary`, with one target, so
//! that there are few. Nothing else of a statement is kept: no literal, no parameter, no column. What
//! does not begin with a verb of PostgreSQL's is `OTHER`, for it may be anything.

use std::borrow::Cow;

use coral_model::text::clean;

use super::tokens::{Token, Tokens};

/// What a statement is called that is none.
pub const OTHER: &str = "OTHER";
/// What one is called that has nothing in it.
pub const EMPTY: &str = "EMPTY";
/// What stands behind the name of the first of several.
const MORE: &str = "; …";
/// Longest name of a table, in bytes; PostgreSQL cuts its own at 63, and there may be a schema.
const LONGEST: usize = 128;
/// Digits in a row that make a name one of many: `events_20261123`.
const DIGITS: usize = 4;

/// Verbs that are all there is to say: what follows is a name that clients make up, or a setting.
const ALONE: [&str; 36] = [
    "ABORT",
    "ANALYZE",
    "BEGIN",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "DEALLOCATE",
    "DECLARE",
    "DISCARD",
    "DO",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "IDENTIFY_SYSTEM",
    "LISTEN",
    "LOAD",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "REINDEX",
    "RELEASE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "SHOW",
    "START",
    "UNLISTEN",
    "VACUUM",
    "VALUES",
];
/// Verbs about a kind of thing, which is named with them: `CREATE INDEX`.
const DEFINING: [&str; 4] = ["ALTER", "CREATE", "DROP", "SECURITY"];
/// What may stand between such a verb and the kind.
const ADORNING: [&str; 10] = [
    "DEFAULT",
    "FOREIGN",
    "GLOBAL",
    "LOCAL",
    "MATERIALIZED",
    "RECURSIVE",
    "TEMP",
    "TEMPORARY",
    "UNIQUE",
    "UNLOGGED",
];
/// Kinds of things.
const KINDS: [&str; 36] = [
    "ACCESS",
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DOMAIN",
    "EVENT",
    "EXTENSION",
    "FUNCTION",
    "GROUP",
    "INDEX",
    "LABEL",
    "LANGUAGE",
    "OPERATOR",
    "OWNED",
    "POLICY",
    "PROCEDURE",
    "PUBLICATION",
    "ROLE",
    "RULE",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "SYSTEM",
    "TABLE",
    "TABLESPACE",
    "TEXT",
    "TRANSFORM",
    "TRIGGER",
    "TYPE",
    "USER",
    "VIEW",
    "WRAPPER",
];
/// Words between a verb and the table it is about.
const BEFORE_TABLE: [&str; 9] =
    ["CONCURRENTLY", "FROM", "INTO", "LATERAL", "MATERIALIZED", "ONLY", "TABLE", "VIEW", "BINARY"];

/// The operation a statement is, or the statements of one message; of a long one the beginning is
/// enough (`cut`).
#[must_use]
pub fn operation(text: &[u8], cut: bool) -> Cow<'static, str> {
    let mut tokens = Tokens::new(text);
    let (mut said, mut named, mut many) = (None, false, false);
    loop {
        let before = tokens;
        match tokens.next() {
            None => break,
            Some(Token::Semicolon) => continue,
            Some(_) => tokens = before,
        }
        many |= said.is_some();
        // The first that says what it is about; what begins a transaction does not.
        if said.is_none() || !named {
            let one = statement(&mut tokens, cut);
            let has_table = one.contains(' ');
            if said.is_none() || has_table {
                (said, named) = (Some(one), has_table);
            }
        }
        // Whatever was not read of it.
        if !tokens.by_ref().any(|token| token == Token::Semicolon) {
            break;
        }
    }
    match said {
        None if cut => OTHER.into(),
        None => EMPTY.into(),
        Some(one) if many => format!("{one}{MORE}").into(),
        Some(one) => one,
    }
}

fn statement(tokens: &mut Tokens<'_>, cut: bool) -> Cow<'static, str> {
    let mut first = tokens.next();
    while first == Some(Token::Open) {
        first = tokens.next();
    }
    let Some(verb) = first else { return OTHER.into() };
    if verb.is("WITH") {
        return with(tokens, cut);
    }
    about(verb, tokens, cut)
}

/// The statement behind what is defined for it: the first verb that is in no parentheses.
fn with(tokens: &mut Tokens<'_>, cut: bool) -> Cow<'static, str> {
    let depth = tokens.depth;
    loop {
        let before = *tokens;
        match tokens.next() {
            None => return "WITH".into(),
            Some(Token::Semicolon) => {
                *tokens = before;
                return "WITH".into();
            }
            Some(token) if tokens.depth == depth => {
                let verbs = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE"];
                if token.one_of(&verbs).is_some() {
                    return about(token, tokens, cut);
                }
            }
            Some(_) => {}
        }
    }
}

fn about(verb: Token<'_>, tokens: &mut Tokens<'_>, cut: bool) -> Cow<'static, str> {
    if let Some(alone) = verb.one_of(&ALONE) {
        // The same thing by another name.
        return if alone == "START" { "BEGIN".into() } else { alone.into() };
    }
    if let Some(defining) = verb.one_of(&DEFINING) {
        return define(defining, tokens);
    }
    if verb.is("SELECT") {
        return named("SELECT", from(tokens).and_then(|()| table(tokens, cut)));
    }
    let verbs = [
        "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "COPY", "LOCK", "TABLE", "CALL",
        "REFRESH",
    ];
    match verb.one_of(&verbs) {
        Some(verb) => named(verb, table(tokens, cut)),
        None => OTHER.into(),
    }
}

fn named(verb: &'static str, table: Option<String>) -> Cow<'static, str> {
    match table {
        Some(table) => format!("{verb} {table}").into(),
        None => verb.into(),
    }
}

fn define(verb: &'static str, tokens: &mut Tokens<'_>) -> Cow<'static, str> {
    let mut ahead = *tokens;
    while let Some(token) = ahead.next() {
        if let Some(kind) = token.one_of(&KINDS) {
            *tokens = ahead;
            return format!("{verb} {kind}").into();
        }
        let adorned = token.is("OR") || token.is("REPLACE") || token.one_of(&ADORNING).is_some();
        if !adorned {
            break;
        }
    }
    verb.into()
}

/// Goes to what a selection is from, and into what that is where it is another one. Words inside of
/// parentheses say something else: `extract(year FROM day)`.
fn from(tokens: &mut Tokens<'_>) -> Option<()> {
    let mut depth = tokens.depth;
    let mut distinct = false;
    loop {
        let before = *tokens;
        let token = tokens.next()?;
        if token == Token::Semicolon || tokens.depth < depth {
            *tokens = before;
            return None;
        }
        if tokens.depth == depth && token.is("FROM") && !distinct {
            let mut ahead = *tokens;
            let mut next = ahead.next()?;
            while next == Token::Open || next.is("LATERAL") {
                next = ahead.next()?;
            }
            if !next.is("SELECT") {
                // Where several are joined in parentheses the first of them counts.
                while let Some(after) = tokens.opened() {
                    *tokens = after;
                }
                return Some(());
            }
            *tokens = ahead;
            depth = tokens.depth;
        }
        // `IS DISTINCT FROM` compares.
        distinct = token.is("DISTINCT");
    }
}

/// The table that comes next, with its schema where that is said. `None` where there is none, or where
/// it may go on behind the end of what is known.
fn table(tokens: &mut Tokens<'_>, cut: bool) -> Option<String> {
    let mut name = String::new();
    loop {
        let before = *tokens;
        let token = tokens.next()?;
        let part = match token {
            Token::Word(_) if name.is_empty() && token.one_of(&BEFORE_TABLE).is_some() => continue,
            Token::Word(word) => String::from_utf8_lossy(word).to_lowercase(),
            Token::Quoted(word) => String::from_utf8_lossy(word).replace("\"\"", "\""),
            _ => {
                *tokens = before;
                return None;
            }
        };
        push(&mut name, &part);
        let mut ahead = *tokens;
        match ahead.next() {
            Some(Token::Dot) if name.len() < LONGEST => {
                *tokens = ahead;
                name.push('.');
            }
            None if cut => return None,
            _ => return (name.len() <= LONGEST).then_some(name),
        }
    }
}

/// A name, with long numbers taken out: there may be a table for each day.
fn push(name: &mut String, part: &str) {
    let part = clean(part);
    let mut rest = part.as_ref();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        name.push_str(before);
        name.push_str(if digits.len() < DIGITS { digits } else { "{id}" });
        rest = after;
    }
    // A blank would look like a second word.
    name.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_its_verb_and_its_table() {
        for (text, wanted) in [
            ("SELECT * FROM orders WHERE id = 7", "SELECT orders"),
            ("select a, b from public.Orders o join items using (id)", "SELECT public.orders"),
            ("SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "SELECT pgbench_accounts"),
            ("INSERT INTO \"My Table\" (a) VALUES ('x')", "INSERT My Table"),
            ("UPDATE ONLY pgbench_tellers SET tbalance = tbalance + 1", "UPDATE pgbench_tellers"),
            ("DELETE FROM cart.items WHERE a = 'FROM secret'", "DELETE cart.items"),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "MERGE t"),
            ("TRUNCATE TABLE a, b", "TRUNCATE a"),
            ("truncate pgbench_history", "TRUNCATE pgbench_history"),
            ("COPY t (a, b) FROM STDIN", "COPY t"),
            ("COPY (SELECT * FROM t) TO STDOUT", "COPY"),
            ("LOCK TABLE t IN EXCLUSIVE MODE", "LOCK t"),
            ("CALL pay(1, 'x')", "CALL pay"),
            ("REFRESH MATERIALIZED VIEW CONCURRENTLY totals", "REFRESH totals"),
            ("BEGIN", "BEGIN"),
            ("start transaction isolation level serializable", "BEGIN"),
            ("END;", "END"),
            ("ROLLBACK TO SAVEPOINT s4711", "ROLLBACK"),
            ("SET application_name = 'secret'", "SET"),
            ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX"),
            ("create or replace function f() returns int as $$ select 1 $$", "CREATE FUNCTION"),
            ("DROP TABLE IF EXISTS t", "DROP TABLE"),
            ("CREATE secret", "CREATE"),
            ("VALUES (1)", "VALUES"),
            ("TABLE orders", "TABLE orders"),
            ("EXECUTE stmt_4711 (1)", "EXECUTE"),
            ("", "EMPTY"),
            (" -- nothing\n ; ;", "EMPTY"),
            ("secret words", "OTHER"),
            ("'secret'", "OTHER"),
        ] {
            assert_eq!(operation(text.as_bytes(), false), wanted, "{text}");
        }
    }

    #[test]
    fn what_a_selection_is_from_is_found_wherever_it_stands() {
        for (text, wanted) in [
            ("SELECT 1", "SELECT"),
            ("SELECT now(), 'FROM x'", "SELECT"),
            ("SELECT extract(year FROM day) FROM sales", "SELECT sales"),
            ("SELECT a IS DISTINCT FROM b FROM pairs", "SELECT pairs"),
            ("SELECT (SELECT max(x) FROM inner_one) FROM outer_one", "SELECT outer_one"),
            ("SELECT * FROM (SELECT a FROM deep WHERE b = $1) AS s", "SELECT deep"),
            ("SELECT * FROM ((a JOIN b USING (c)) JOIN d USING (e))", "SELECT a"),
            ("(SELECT a FROM first) UNION (SELECT a FROM second)", "SELECT first"),
            ("SELECT * FROM generate_series(1, 100000)", "SELECT generate_series"),
            ("WITH x AS (SELECT 1 FROM inside) UPDATE t SET a = 1", "UPDATE t"),
            ("WITH RECURSIVE x(n) AS (VALUES (1)) SELECT n FROM x", "SELECT x"),
            ("/* app='x' /* in */ */ SELECT /*+ hint */ a FROM t", "SELECT t"),
            ("SELECT E'it\\'s FROM here', $tag$ FROM there $tag$ FROM t", "SELECT t"),
            ("SELECT $1::text, x.\"from\" FROM t x", "SELECT t"),
            ("SELECT * FROM events_20261123", "SELECT events_{id}"),
            ("SELECT * FROM t2", "SELECT t2"),
            ("SELECT * FROM", "SELECT"),
            ("SELECT * FROM 'secret'", "SELECT"),
        ] {
            assert_eq!(operation(text.as_bytes(), false), wanted, "{text}");
        }
    }

    #[test]
    fn several_statements_are_told_by_the_first_that_names_a_table() {
        let of = |text: &str| operation(text.as_bytes(), false);
        assert_eq!(
            of("BEGIN; UPDATE a SET x = 1; INSERT INTO b VALUES (1); COMMIT"),
            "UPDATE a; …"
        );
        assert_eq!(of("SELECT 1; SELECT 2"), "SELECT; …");
        assert_eq!(of("SELECT ';' ; "), "SELECT");
        assert_eq!(of("COMMIT;;"), "COMMIT");
    }

    #[test]
    fn what_is_cut_off_is_not_guessed() {
        let of = |text: &str| operation(text.as_bytes(), true);
        assert_eq!(of("SELECT a FROM ord"), "SELECT");
        assert_eq!(of("SELECT a FROM orders W"), "SELECT orders");
        assert_eq!(of("INSERT INTO public."), "INSERT");
        assert_eq!(of("SELECT a, b, c"), "SELECT");
        assert_eq!(of("/* long"), "OTHER");
        let long = format!("SELECT * FROM {}", "x".repeat(200));
        assert_eq!(operation(long.as_bytes(), false), "SELECT");
        for odd in
            ["$", "$$", "'", "\"", "E'\\", "/*", "--", "(", "\u{0}", "SELECT * FROM \"\u{7}\" x"]
        {
            assert!(!operation(odd.as_bytes(), false).chars().any(char::is_control), "{odd:?}");
        }
    }
}
