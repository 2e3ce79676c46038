//! Why a question has no answer.

use coral_model::question::View;

use crate::store::{says_no_memory, says_no_room};

/// Why a question has no answer. Variants say whether the question or the colony is at fault.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The filter cannot be read; the text carries a caret.
    #[error("{0}")]
    Filter(String),
    /// The filter names something the rows of this view do not have.
    #[error("`{view}` rows have no `{key}` to filter by; they have: {keys}")]
    Key {
        /// The key.
        key: String,
        /// The view.
        view: View,
        /// What it has.
        keys: String,
    },
    /// The question contradicts itself or lacks something.
    #[error("{0}")]
    Question(String),
    /// There is nothing to answer from; the answer is empty, and says why.
    #[error("{0}")]
    Nothing(String),
    /// The statement ran into its time limit.
    #[error(
        "the answer took longer than {0} s and was stopped; ask about less time, fewer services, or a coarser step"
    )]
    TooSlow(u64),
    /// The statement needed more memory than it may have.
    #[error(
        "the answer needed more memory than a question may have and was stopped; ask about less time, or group by fewer values"
    )]
    TooLarge,
    /// The disk was full when the statement had to set something aside.
    #[error(
        "the disk is full: there is no room for what making the answer sets aside; make room, or ask about less time"
    )]
    NoRoom,
    /// The store refused or failed.
    #[error("the store could not answer: {0}")]
    Store(String),
    /// DuckDB refused or failed.
    #[error("the store could not run a statement: {error}")]
    Database {
        /// What it said.
        error: String,
        /// The statement, for the daemon's log.
        sql: String,
    },
    /// A column is not what this build expects: the store's schema is another version's.
    #[error(
        "the store's column `{column}` is {found}, not {want}: was it written by another version?"
    )]
    Shape {
        /// Which column.
        column: String,
        /// What was expected.
        want: &'static str,
        /// What was found.
        found: String,
    },
}

impl From<crate::store::packed::Malformed> for QueryError {
    fn from(error: crate::store::packed::Malformed) -> Self {
        Self::Store(error.to_string())
    }
}

impl QueryError {
    pub(super) fn database(error: &duckdb::Error, sql: &str) -> Self {
        let error = error.to_string();
        Self::bound(&error).unwrap_or_else(|| Self::Database { error, sql: sql.to_owned() })
    }

    /// What a statement ran into that DuckDB says this of, where that is a bound.
    pub(super) fn bound(text: &str) -> Option<Self> {
        // Room first: DuckDB names it as the reason why memory ran out, too.
        if says_no_room(text) {
            Some(Self::NoRoom)
        } else if says_no_memory(text) {
            Some(Self::TooLarge)
        } else {
            None
        }
    }

    /// A file of the store may be damaged. What DuckDB says of one depends on where it stumbled, and
    /// seldom names the file; so this is every error that does not blame the statement or a bound.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        const BLAMES_OTHERS: [&str; 8] = [
            "Binder Error",
            "Parser Error",
            "Catalog Error",
            "Conversion Error",
            "Permission Error",
            "Out of Memory",
            "INTERRUPT",
            "the store is closing",
        ];
        let (Self::Database { error, .. } | Self::Store(error)) = self else { return false };
        !BLAMES_OTHERS.iter().any(|sign| error.contains(sign))
    }

    /// The person who asked can mend it by asking otherwise.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Filter(_) | Self::Key { .. } | Self::Question(_))
    }
}
