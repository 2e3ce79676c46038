//! The DuckDB instance: opened with its settings, checked, and set aside when it is damaged.

use std::path::{Path, PathBuf};

use coral_model::time::Time;
use duckdb::{Config, Connection};

use super::StoreError;
use super::options::Options;
use super::schema::{self, FIXED};
use super::segment;
use super::sweep::{Damaged, sweep};
use super::tables::text;

/// Name of the store's file in the data directory.
pub const FILE: &str = "telemetry.duckdb";

/// Name of its log, by DuckDB's rule.
pub const LOG: &str = "telemetry.duckdb.wal";

/// An open database, and what became of the previous one.
#[derive(Debug)]
pub struct Opened {
    /// The first connection; others are clones of it.
    pub connection: Connection,
    /// Where a damaged file was moved, and what was wrong with it.
    pub set_aside: Option<(PathBuf, String)>,
    /// Segments that were set aside.
    pub damaged: Vec<Damaged>,
}

/// Opens the store in `dir`, making it if need be.
///
/// A damaged file is moved away and an empty one begun: a colony that cannot remember yesterday
/// must still show today. A file of a newer build or one in use is an error.
pub fn open(dir: &Path, options: &Options) -> Result<Opened, StoreError> {
    let directory = |source| StoreError::Directory { path: dir.to_owned(), source };
    let dir = &std::path::absolute(dir).map_err(directory)?;
    for below in ["tmp", segment::DIR] {
        std::fs::create_dir_all(dir.join(below)).map_err(directory)?;
    }
    let file = dir.join(FILE);
    match attempt(&file, dir, options) {
        Ok(connection) => {
            let damaged = sweep(&connection, dir, false)?;
            Ok(Opened { connection, set_aside: None, damaged })
        }
        Err(error @ (StoreError::Newer { .. } | StoreError::Locked { .. })) => Err(error),
        Err(error) if !file.exists() => Err(error),
        // Nothing is wrong with the file; it opens when there is room.
        Err(error) if error.is_no_room() => Err(error),
        Err(error) => {
            let why = error.to_string();
            let aside = set_aside(&file, (options.clock)()).map_err(directory)?;
            let connection = attempt(&file, dir, options)?;
            let damaged = sweep(&connection, dir, true)?;
            Ok(Opened { connection, set_aside: Some((aside, why)), damaged })
        }
    }
}

/// Opens the database alone: files and manifest are not compared.
pub fn attempt(file: &Path, dir: &Path, options: &Options) -> Result<Connection, StoreError> {
    let path_text = |p: PathBuf| p.to_string_lossy().into_owned();
    let config = Config::default()
        .max_memory(&format!("{}B", options.memory_bytes))?
        .threads(i64::from(options.threads))?
        .with("temp_directory", path_text(dir.join("tmp")))?
        // The writer checkpoints by its own rules; DuckDB's rule would stall a random commit.
        .with("checkpoint_threshold", "1TB")?
        .with("preserve_insertion_order", "false")?
        .with("default_order", "asc")?
        .enable_autoload_extension(false)?
        .with("allow_community_extensions", "false")?;
    let connection = Connection::open_with_flags(file, config).map_err(|e| opening(file, e))?;
    prepare(&connection, file)?;
    let open_to = [segment::DIR, "tmp"].map(|below| text(&path_text(dir.join(below))));
    // Files never change, and a question opens the same ones as the question before. The bound on what is
    // set aside holds only when it is set on an open database; in its configuration DuckDB takes it and
    // uses nine tenths of the disk.
    connection.execute_batch(&format!(
        "SET GLOBAL parquet_metadata_cache = true; SET max_temp_directory_size = '{}B'; \
         SET allowed_directories = [{}]; SET enable_external_access = false; \
         SET lock_configuration = true;",
        options.temp_bytes,
        open_to.join(", ")
    ))?;
    Ok(connection)
}

/// Tells apart what can go wrong on opening.
fn opening(file: &Path, error: duckdb::Error) -> StoreError {
    let text = error.to_string();
    if text.contains("Could not set lock") || text.contains("Conflicting lock") {
        return StoreError::Locked { path: file.to_owned(), detail: text };
    }
    error.into()
}

/// Checks the version, brings an older store to this one's, makes what is missing.
fn prepare(connection: &Connection, file: &Path) -> Result<(), StoreError> {
    connection.execute_batch(FIXED)?;
    let version: Option<String> =
        connection
            .query_row("SELECT max(value) FROM meta WHERE key = 'version'", [], |row| row.get(0))?;
    match version.map(|v| v.parse::<i64>()) {
        None => {
            for version in 2..=schema::VERSION {
                connection.execute_batch(&schema::upgrade(version, &[]))?;
            }
            let sql = format!("INSERT INTO meta VALUES ('version', '{}')", schema::VERSION);
            connection.execute_batch(&sql)?;
        }
        Some(Ok(found)) if found > schema::VERSION => {
            let (path, ours) = (file.to_owned(), schema::VERSION);
            return Err(StoreError::Newer { path, found, ours });
        }
        Some(found) => {
            for version in found.unwrap_or(1).max(1) + 1..=schema::VERSION {
                let sql = schema::upgrade(version, &tables(connection)?);
                connection.execute_batch(&format!(
                    "BEGIN; {sql} UPDATE meta SET value = '{version}' WHERE key = 'version'; COMMIT;"
                ))?;
                tracing::info!("the store was brought from version {} to {version}", version - 1);
            }
        }
    }
    Ok(())
}

/// Names of all tables.
fn tables(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare("SELECT table_name FROM duckdb_tables() ORDER BY 1")?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Moves a file and its log out of the way.
fn set_aside(file: &Path, now: Time) -> std::io::Result<PathBuf> {
    let stamp = now.format(&jiff::tz::TimeZone::UTC, "%Y%m%dT%H%M%S");
    let aside = file.with_extension(format!("damaged-{stamp}"));
    std::fs::rename(file, &aside)?;
    let log = file.with_extension("duckdb.wal");
    if log.exists() {
        let mut name = aside.clone().into_os_string();
        name.push(".wal");
        std::fs::rename(log, name)?;
    }
    Ok(aside)
}
