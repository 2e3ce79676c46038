//! Rows on their way out: JSON objects, packed into messages.

use bytes::Bytes;
use coral_model::view::{End, Row};
use coral_model::{Time, Window};
use coral_proto::v1;
use tonic::Status;
use xxhash_rust::xxh3::Xxh3;

/// Rows in one message.
const ROWS: usize = 512;
/// Bytes after which a message is full.
const BYTES: usize = 256 << 10;

/// Packs rows into messages of bounded size.
#[derive(Default)]
pub(super) struct Packed {
    /// Full messages and the last one.
    pub(super) messages: Vec<v1::Rows>,
    open: Vec<Bytes>,
    open_bytes: usize,
    changes: Xxh3,
}

impl Packed {
    /// An answer with its end record; also what to compare with the previous answer's
    /// [`Self::fingerprint`].
    pub(super) fn answer(rows: &[Row], end: End) -> Result<Self, Status> {
        let mut packed = Self::default();
        for row in rows {
            packed.row(row)?;
        }
        packed.changes.update(&json(&without_slide(&end))?);
        packed.put(json(&Row::End(Box::new(end)))?);
        packed.flush();
        Ok(packed)
    }

    /// Rows without an end: more will follow.
    pub(super) fn some(rows: &[Row]) -> Result<Self, Status> {
        let mut packed = Self::default();
        for row in rows {
            packed.put(json(row)?);
        }
        packed.flush();
        Ok(packed)
    }
    fn row(&mut self, row: &Row) -> Result<(), Status> {
        let bytes = json(row)?;
        if let Row::Digest(digest) = row {
            // What it was compared with slides along with the clock; by itself that is no news.
            let mut still = digest.clone();
            still.compared_with = Window::new(Time(0), Time(0));
            self.changes.update(&json(&still)?);
        } else {
            self.changes.update(&bytes);
        }
        self.put(bytes);
        Ok(())
    }

    fn put(&mut self, row: Bytes) {
        self.open_bytes += row.len();
        self.open.push(row);
        if self.open.len() >= ROWS || self.open_bytes >= BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.open.is_empty() {
            self.messages.push(v1::Rows { json: std::mem::take(&mut self.open) });
            self.open_bytes = 0;
        }
    }

    /// Equal for two answers exactly when they say the same, whatever the clock did between them.
    pub(super) fn fingerprint(&self) -> u64 {
        self.changes.digest()
    }
}

fn without_slide(end: &End) -> End {
    let compare = end.compare.map(|_| Window::new(Time(0), Time(0)));
    End { from: Time(0), to: Time(0), stored_to: None, compare, ..end.clone() }
}
pub(super) fn json(value: &impl serde::Serialize) -> Result<Bytes, Status> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(bytes.into()),
        Err(e) => Err(Status::internal(format!("a row cannot be written as JSON: {e}"))),
    }
}
