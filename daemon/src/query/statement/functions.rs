//! Which functions a statement may call.
//!
//! An allow-list, reviewed name by name against DuckDB 1.5.6: what computes from its arguments is on
//! it. Not on it is what reads or changes the outside or the instance (settings, files, sequences,
//! catalogs, logs, sleeping), DuckDB's internal plumbing, and what makes a value of any size out of a
//! number (`repeat`, `lpad`, `format` with a width, lists by `range`): such values are made inside
//! one step, where neither the interrupt nor the memory limit reaches. A test holds the list against
//! the functions the linked DuckDB has, so that one it gains is denied until somebody has decided.

/// One name a line, sorted.
const ALLOWED: &str = include_str!("functions.txt");
/// Coral's own; see the macros of this room.
const OWN: [&str; 5] = ["span_hex", "time_of", "trace_hex", "window_from", "window_to"];

/// Functions that may stand in FROM.
pub const TABLES: [&str; 3] = ["unnest", "range", "generate_series"];

/// Every name that can be called.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALLOWED.lines().chain(OWN)
}

/// Whether a function, in lower case, can be called.
pub fn allowed(name: &str) -> bool {
    // DuckDB names a few functions with capitals.
    names().any(|known| known.eq_ignore_ascii_case(name))
}

/// What to write instead of a function that cannot be called.
pub fn replaced(name: &str) -> Option<&'static str> {
    Some(match name {
        "format" | "printf" => {
            "concat() and || join text; trace_hex(trace_hi, trace_lo) and span_hex(span_id) write ids"
        }
        "range" | "generate_series" => "it can stand in FROM: SELECT … FROM range(10)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use duckdb::Connection;

    /// Looked at and left out, with the reason above; families by their prefix.
    const DENIED: &str = "alias array_resize bar can_cast_implicitly cast_to_type col_description \
        combine create_sort_key current_catalog current_connection_id current_database current_query \
        current_query_id current_role current_schema current_schemas current_setting \
        current_transaction_id current_user currval enum_code enum_first enum_last enum_range \
        enum_range_boundary equi_width_bins fill finalize format format_pg_type format_type \
        generate_series generate_subscripts get_block_size get_type getvariable icu_sort_key \
        in_search_path inet_client_addr inet_client_port inet_server_addr inet_server_port \
        json_deserialize_sql json_serialize_plan json_serialize_sql list_resize lpad make_type \
        map_to_pg_oid nextval obj_description parse_duckdb_log_message printf range remap_struct \
        repeat replace_type rpad session_user setseed shobj_description sleep_ms stats txid_current \
        user variant_bytes_to_variant variant_extract variant_normalize variant_to_parquet_variant \
        variant_typeof vector_type version write_log getenv";
    const DENIED_FAMILIES: [&str; 5] = ["__internal_", "pg_", "has_", "icu_collate_", "st_"];

    #[test]
    fn every_function_of_the_linked_duckdb_is_decided() {
        let conn = Connection::open_in_memory().unwrap();
        let sql = "SELECT DISTINCT function_name FROM duckdb_functions() \
                   WHERE function_type IN ('scalar', 'aggregate', 'macro')";
        let mut statement = conn.prepare(sql).unwrap();
        let all: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(all.len() > 500);
        let denied = |name: &str| {
            DENIED.split_whitespace().any(|d| d == name)
                || DENIED_FAMILIES.iter().any(|family| name.starts_with(family))
        };
        for name in &all {
            assert!(allowed(name) != denied(name), "{name}: allow it or deny it, not both");
        }
        // Nothing is allowed that nobody could have looked at.
        for name in ALLOWED.lines().filter(|n| *n != "unnest") {
            assert!(all.iter().any(|known| known == name), "{name} is not in this DuckDB");
        }
        assert!(!OWN.iter().any(|own| all.iter().any(|known| known == own)));
    }
}
