//! Whether a statement may run: a walk over the tree DuckDB's own parser made of it.
//!
//! `json_serialize_sql` refuses everything that is not a SELECT, so what remains is what a SELECT can
//! reach: tables, table functions, functions. The walk visits every object of the tree, whatever it
//! is called, and refuses kinds of nodes it does not know: a grammar that grows is refused, not let
//! through. Names of CTEs count only where DuckDB would resolve them, so that a CTE cannot lend its
//! name to a table that is not public.

use duckdb::Connection;
use hashbrown::HashSet;
use serde_json::{Map, Value};

use super::super::QueryError;
use super::caret::point;
use super::functions;

/// What a statement may read.
pub const VIEWS: [&str; 9] =
    ["spans", "logs", "metrics", "red", "edges", "events", "resources", "hosts", "inflight"];

/// Kinds of expressions.
const EXPRESSIONS: [&str; 17] = [
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "DEFAULT",
    "FUNCTION",
    "LAMBDA",
    "LAMBDA_REF",
    "OPERATOR",
    "POSITIONAL_REFERENCE",
    "STAR",
    "SUBQUERY",
    "WINDOW",
];
/// Kinds of queries, of what stands in FROM, and of what modifies them.
const NODES: [&str; 16] = [
    "SELECT_NODE",
    "SET_OPERATION_NODE",
    "RECURSIVE_CTE_NODE",
    "CTE_NODE",
    "BASE_TABLE",
    "EMPTY",
    "EXPRESSION_LIST",
    "JOIN",
    "PIVOT",
    "SHOW_REF",
    "SUBQUERY",
    "TABLE_FUNCTION",
    "DISTINCT_MODIFIER",
    "LIMIT_MODIFIER",
    "LIMIT_PERCENT_MODIFIER",
    "ORDER_MODIFIER",
];
/// Ways to order.
const ORDERS: [&str; 3] = ["ORDER_DEFAULT", "ASCENDING", "DESCENDING"];

const WHAT: &str = "this statement is not one that Coral runs";

/// Checks `text`; the error says what is allowed, and shows the place.
pub fn check(conn: &Connection, text: &str) -> Result<(), QueryError> {
    let tree = parse(conn, text)?;
    let statements = tree.get("statements").and_then(Value::as_array);
    let [statement] = statements.map(Vec::as_slice).unwrap_or_default() else {
        return Err(deny(text, None, "it has to be exactly one SELECT", ""));
    };
    let mut walk = Walk { text, scopes: Vec::new(), ctes: HashSet::new() };
    walk.value(statement)?;
    walk.names(conn)
}

fn deny(text: &str, at: Option<usize>, why: &str, hint: &str) -> QueryError {
    QueryError::Question(point(WHAT, text, at, why, hint))
}

/// The tree, or why there is none.
fn parse(conn: &Connection, text: &str) -> Result<Value, QueryError> {
    let sql = "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR";
    let found: Result<String, _> = conn.query_row(sql, [text], |row| row.get(0));
    let found = found.map_err(|error| QueryError::database(&error, sql))?;
    let tree: Value = serde_json::from_str(&found)
        .map_err(|_| deny(text, None, "it is nested too deeply", ""))?;
    if tree.get("error").and_then(Value::as_bool) != Some(true) {
        return Ok(tree);
    }
    let said = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    if said("error_type") == "parser" {
        let at = said("position").parse().ok();
        let why = said("error_message");
        return Err(QueryError::Question(point("this is not SQL", text, at, why, "")));
    }
    let hint = "it reads, and changes nothing: SELECT, WITH, FROM, VALUES, DESCRIBE";
    Err(deny(text, Some(0), "only a SELECT runs here", hint))
}

struct Walk<'a> {
    text: &'a str,
    /// Names of CTEs that can be seen, by the query that has them.
    scopes: Vec<HashSet<String>>,
    /// Names of all of them.
    ctes: HashSet<String>,
}

/// DuckDB's identifiers know no case, in ASCII.
fn name(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
}

fn place(object: &Map<String, Value>) -> Option<usize> {
    usize::try_from(object.get("query_location")?.as_u64()?).ok()
}

impl Walk<'_> {
    fn deny(&self, object: &Map<String, Value>, why: &str, hint: &str) -> QueryError {
        deny(self.text, place(object), why, hint)
    }

    fn value(&mut self, value: &Value) -> Result<(), QueryError> {
        match value {
            Value::Array(all) => all.iter().try_for_each(|v| self.value(v)),
            Value::Object(object) => self.object(object),
            _ => Ok(()),
        }
    }

    fn object(&mut self, object: &Map<String, Value>) -> Result<(), QueryError> {
        // What a constant is made of is no part of the query.
        if object.get("class").and_then(Value::as_str) == Some("CONSTANT") {
            return Ok(());
        }
        self.kind(object)?;
        if object.contains_key("function_name") {
            self.function(object)?;
        }
        match object.get("type").and_then(Value::as_str) {
            Some("BASE_TABLE") => self.table(object)?,
            Some("TABLE_FUNCTION") => return self.table_function(object),
            Some("SHOW_REF") if !object.get("query").is_some_and(Value::is_object) => {
                let hint =
                    format!("the views are {}; DESCRIBE spans lists columns", VIEWS.join(" "));
                return Err(self.deny(object, "SHOW is not among what it can be", &hint));
            }
            Some("RECURSIVE_CTE_NODE") => return self.recursive(object),
            _ => {}
        }
        self.scoped(object, &[])
    }

    /// Everything inside, with the object's own CTEs in sight, except some fields.
    fn scoped(&mut self, object: &Map<String, Value>, except: &[&str]) -> Result<(), QueryError> {
        let ctes = object.get("cte_map");
        if let Some(map) = ctes {
            self.scopes.push(HashSet::new());
            self.ctes_of(map)?;
        }
        for (key, inner) in object {
            if key != "cte_map" && !except.contains(&key.as_str()) {
                self.value(inner)?;
            }
        }
        if ctes.is_some() {
            self.scopes.pop();
        }
        Ok(())
    }

    /// Each CTE sees those before it.
    fn ctes_of(&mut self, map: &Value) -> Result<(), QueryError> {
        let entries = map.get("map").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let key = entry.get("key").and_then(Value::as_str).unwrap_or_default();
            self.value(entry.get("value").unwrap_or(&Value::Null))?;
            self.see(key.to_ascii_lowercase());
        }
        Ok(())
    }

    fn see(&mut self, name: String) {
        self.ctes.insert(name.clone());
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name);
        }
    }

    /// Only the second part of a recursion sees itself.
    fn recursive(&mut self, object: &Map<String, Value>) -> Result<(), QueryError> {
        self.scoped(object, &["right"])?;
        self.scopes.push(HashSet::from([name(object, "cte_name")]));
        self.ctes.insert(name(object, "cte_name"));
        if let Some(map) = object.get("cte_map") {
            self.ctes_of(map)?;
        }
        self.value(object.get("right").unwrap_or(&Value::Null))?;
        self.scopes.pop();
        Ok(())
    }

    fn kind(&self, object: &Map<String, Value>) -> Result<(), QueryError> {
        let Some(kind) = object.get("type").and_then(Value::as_str) else { return Ok(()) };
        let known = match object.get("class").and_then(Value::as_str) {
            Some(class) => EXPRESSIONS.contains(&class),
            None => NODES.contains(&kind) || ORDERS.contains(&kind) || kind.ends_with("_TYPE_INFO"),
        };
        if known {
            return Ok(());
        }
        let what = object.get("class").and_then(Value::as_str).unwrap_or(kind);
        Err(self.deny(object, &format!("{what} is not among what a statement may have"), ""))
    }

    fn table(&self, object: &Map<String, Value>) -> Result<(), QueryError> {
        let table = name(object, "table_name");
        let bare =
            name(object, "schema_name").is_empty() && name(object, "catalog_name").is_empty();
        let own = self.scopes.iter().any(|scope| scope.contains(&table));
        if bare && (own || VIEWS.contains(&table.as_str())) {
            return Ok(());
        }
        let why =
            format!("`{}` is not a view that can be read", coral_model::text::fit(&table, 40));
        Err(self.deny(object, &why, &format!("the views are {}", VIEWS.join(" "))))
    }

    fn table_function(&mut self, object: &Map<String, Value>) -> Result<(), QueryError> {
        let empty = Map::new();
        let call = object.get("function").and_then(Value::as_object).unwrap_or(&empty);
        let called = name(call, "function_name");
        if !self.bare(call) || !functions::TABLES.contains(&called.as_str()) {
            let why = format!(
                "`{}` is not a table function that can be used",
                coral_model::text::fit(&called, 40)
            );
            let hint = format!("table functions are {}", functions::TABLES.join(" "));
            let at = if place(call).is_some() { call } else { object };
            return Err(self.deny(at, &why, &hint));
        }
        for inner in call.values() {
            self.value(inner)?;
        }
        self.scoped(object, &["function"])
    }

    /// DuckDB's own function: the parser itself writes some of them as `system.main.…`. Nothing else
    /// can be there, as nothing makes functions.
    fn bare(&self, call: &Map<String, Value>) -> bool {
        matches!(name(call, "schema").as_str(), "" | "main")
            && matches!(name(call, "catalog").as_str(), "" | "system")
    }

    fn function(&self, call: &Map<String, Value>) -> Result<(), QueryError> {
        let called = name(call, "function_name");
        if self.bare(call) && functions::allowed(&called) {
            return Ok(());
        }
        let why =
            format!("`{}` is not a function that can be used", coral_model::text::fit(&called, 40));
        let near = coral_model::filter::nearest(&called, functions::names());
        let hint = match (functions::replaced(&called), near) {
            (Some(hint), _) => hint.to_owned(),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => "docs/sql.md says which functions can".to_owned(),
        };
        Err(self.deny(call, &why, &hint))
    }

    /// No CTE bears the name of something in the store that is not public: if this walk and DuckDB
    /// ever disagreed on what a name means, nothing would be gained by it.
    fn names(&self, conn: &Connection) -> Result<(), QueryError> {
        if self.ctes.is_empty() {
            return Ok(());
        }
        let sql = "SELECT lower(table_name) FROM duckdb_tables() UNION ALL \
                   SELECT lower(view_name) FROM duckdb_views()";
        let failed = |error: duckdb::Error| QueryError::database(&error, sql);
        let mut statement = conn.prepare(sql).map_err(failed)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
        for taken in rows.filter_map(Result::ok) {
            if self.ctes.contains(&taken) && !VIEWS.contains(&taken.as_str()) {
                let why = format!("a CTE cannot be called `{taken}` here: the store has that name");
                return Err(deny(self.text, None, &why, ""));
            }
        }
        Ok(())
    }
}
