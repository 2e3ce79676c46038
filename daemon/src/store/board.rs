//! What readers see: a transaction and the tables that belong to it, changed together.

use std::sync::{Arc, PoisonError, RwLock};

use duckdb::Connection;

use super::StoreError;
use super::tables::{Change, Tables};

/// The tables in force.
#[derive(Debug, Default)]
pub struct Board {
    shown: RwLock<Arc<Tables>>,
}

impl Board {
    /// The tables in force.
    #[must_use]
    pub fn now(&self) -> Arc<Tables> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a read-only transaction and says which tables it sees: until it ends, all of them
    /// stay, whatever is dropped meanwhile.
    pub fn begin(&self, connection: &Connection) -> Result<Arc<Tables>, StoreError> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        connection.execute_batch("BEGIN TRANSACTION READ ONLY")?;
        // DuckDB fixes what a transaction sees when it first reads.
        let seen =
            connection.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0));
        match seen {
            Ok(_) => Ok(Arc::clone(&shown)),
            Err(error) => {
                _ = connection.execute_batch("ROLLBACK");
                Err(error.into())
            }
        }
    }

    /// Makes a change in one transaction. Readers that begin before its commit see none of it,
    /// those that begin later all of it.
    pub fn make(&self, connection: &Connection, change: Change) -> Result<(), StoreError> {
        let done = connection
            .execute_batch(&format!("BEGIN; {}", change.statements.join("; ")))
            .and_then(|()| {
                let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
                connection.execute_batch("COMMIT")?;
                *shown = Arc::new(change.tables);
                Ok(())
            });
        if done.is_err() {
            _ = connection.execute_batch("ROLLBACK");
        }
        Ok(done?)
    }
}
