//! No colony at all: what is shown came out of a file.

use coral_model::question::Question;
use coral_model::time::Time;
use coral_model::view::{Row, StatusRow};
use tokio::sync::mpsc;

use super::{Feed, FeedError, Greeting, Pending, Progress};

/// A feed that never connects, and says why.
pub struct NoColony;

impl NoColony {
    fn none<T: Send + 'static>() -> Pending<T> {
        Box::pin(async { Err(FeedError::Refused("a file is shown; no colony is asked".into())) })
    }
}

impl Feed for NoColony {
    fn connect(&self, progress: Progress) -> Pending<Greeting> {
        progress("a file is shown; no colony is asked");
        Box::pin(std::future::pending())
    }

    fn ask(&self, _question: Question, _rows: mpsc::Sender<Vec<Row>>) -> Pending<()> {
        Self::none()
    }

    fn status(&self) -> Pending<StatusRow> {
        Self::none()
    }

    fn complete(&self, _key: String, _prefix: String) -> Pending<Vec<String>> {
        Self::none()
    }

    fn note(&self, _text: String, _service: Option<String>, _at: Time) -> Pending<()> {
        Self::none()
    }
}
