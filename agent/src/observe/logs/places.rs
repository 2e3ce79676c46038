//! Where each file and journal was read up to, over restarts.
//!
//! The file `logs.json` is written every few seconds, after the spool was synced, so it is never ahead
//! of it. What was appended after it was written last is found in the spool: each request carries in
//! the attributes of its scopes the places it was read up to. So a life that ends in between is
//! neither forgotten nor repeated.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coral_proto::record::{self, FILE_HEADER, FILE_MAGIC, Kind};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::file::{Identity, Print};

/// Scope of everything read of logs.
pub const SCOPE: &str = "coral-agent/logs";
/// Scope attribute that holds a [`Place`] as JSON.
pub const PLACE: &str = "coral.place";
/// Places kept of files that are gone; the oldest go first.
const GONE: usize = 4096;

/// Where something was read up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// A file.
    File(FilePlace),
    /// A journal.
    Journal {
        /// Key of its source.
        journal: String,
        /// systemd's word for a place.
        cursor: String,
    },
}

/// Where a file was read up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlace {
    /// Which file.
    #[serde(flatten)]
    pub id: Identity,
    /// What it begins with.
    pub print: Print,
    /// End of the last record that was appended.
    pub safe: u64,
    /// What it was called.
    pub path: PathBuf,
    /// Key of its source.
    pub source: String,
    /// Still read when this was written.
    pub open: bool,
}

/// Every place, as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Places {
    /// The spool's last record when this was written.
    pub seq: u64,
    /// Sources that were read before: a new file of theirs is read whole.
    pub sources: Vec<String>,
    /// Files.
    pub files: Vec<FilePlace>,
    /// Cursors of journals by source.
    pub journals: BTreeMap<String, String>,
}

impl Places {
    /// What is remembered in `file`, and what the spool knows beyond it.
    #[must_use]
    pub fn resume(file: &Path, spool: &Path) -> Self {
        let mut places = match fs::read(file) {
            Ok(bytes) => serde_json::from_slice::<Self>(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, file = %file.display(), "places in logs are lost: what is there counts as read");
                Self::default()
            }),
            // The first life, or one that ended before it could save anything.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::error!(%error, file = %file.display(), "places in logs cannot be read");
                return Self::default();
            }
        };
        if let Err(error) = places.look_into(spool) {
            tracing::warn!(%error, "the spool cannot be looked into for places in logs");
        }
        places
    }

    /// Takes over what records say that the spool has beyond [`Places::seq`].
    fn look_into(&mut self, spool: &Path) -> io::Result<()> {
        let mut later: Vec<(u64, Place)> = Vec::new();
        for entry in fs::read_dir(spool)? {
            let bytes = Bytes::from(fs::read(entry?.path())?);
            if !bytes.starts_with(&FILE_MAGIC) || bytes.len() < FILE_HEADER {
                continue;
            }
            let mut rest = bytes.slice(FILE_HEADER..);
            while let Ok(record) = record::take(&mut rest) {
                if record.kind == Kind::Logs
                    && record.seq > self.seq
                    && let Ok(body) = record.body()
                    && let Ok(request) = ExportLogsServiceRequest::decode(body)
                {
                    later.extend(places_in(&request).into_iter().map(|p| (record.seq, p)));
                }
            }
        }
        // Segments lie in no order; records do.
        later.sort_by_key(|(seq, _)| *seq);
        for (_, place) in later {
            self.take(place);
        }
        Ok(())
    }

    fn take(&mut self, place: Place) {
        match place {
            Place::Journal { journal, cursor } => {
                self.journals.insert(journal, cursor);
            }
            Place::File(place) => match self.files.iter_mut().find(|f| f.id == place.id) {
                Some(known) => *known = place,
                None => self.files.push(place),
            },
        }
    }

    /// The place of a file that is the one remembered: same inode, same beginning.
    #[must_use]
    pub fn of(&self, id: Identity) -> Option<&FilePlace> {
        self.files.iter().find(|place| place.id == id)
    }

    /// Saves, after the spool was synced.
    ///
    /// # Errors
    /// When the file cannot be written; the old one stays.
    pub fn save(&mut self, file: &Path) -> io::Result<()> {
        if self.files.len() > GONE {
            self.files.sort_by_key(|place| !place.open);
            self.files.truncate(GONE);
        }
        let next = file.with_extension("json.new");
        let mut out = fs::File::create(&next)?;
        out.write_all(&serde_json::to_vec(self)?)?;
        out.sync_data()?;
        fs::rename(&next, file)
    }
}

/// The places a request was read up to.
fn places_in(request: &ExportLogsServiceRequest) -> Vec<Place> {
    let scopes = request.resource_logs.iter().flat_map(|r| &r.scope_logs);
    let scopes = scopes.filter_map(|s| s.scope.as_ref()).filter(|scope| scope.name == SCOPE);
    let pairs = scopes.flat_map(|scope| &scope.attributes).filter(|pair| pair.key == PLACE);
    pairs
        .filter_map(|pair| {
            use opentelemetry_proto::tonic::common::v1::any_value::Value;
            match pair.value.as_ref()?.value.as_ref()? {
                Value::StringValue(text) => serde_json::from_str(text).ok(),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::otlp;
    use super::*;

    fn place(ino: u64, safe: u64) -> FilePlace {
        FilePlace {
            id: Identity { dev: 1, ino },
            print: Print { len: 5, hash: 7 },
            safe,
            path: "/var/log/a.log".into(),
            source: "k".into(),
            open: true,
        }
    }

    #[test]
    fn places_come_back_and_the_spool_knows_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("logs.json");
        let spool = dir.path().join("spool");
        fs::create_dir(&spool).unwrap();
        assert_eq!(Places::resume(&file, &spool), Places::default());
        let mut places =
            Places { seq: 5, files: vec![place(1, 10), place(2, 20)], ..Places::default() };
        places.save(&file).unwrap();
        assert_eq!(Places::resume(&file, &spool), places);

        let mut segment = [FILE_MAGIC.as_slice(), &[0; 16]].concat();
        for (seq, at) in [(5, 99), (6, 30), (7, 35)] {
            let body = otlp::request(vec![otlp::part(
                vec![("service.name".into(), "a".into())],
                Vec::new(),
                &Place::File(place(2, at)),
            )]);
            record::append(&mut segment, Kind::Logs, seq, 1, &body.encode_to_vec()).unwrap();
        }
        let cursor = Place::Journal { journal: "j".into(), cursor: "s=1".into() };
        let body = otlp::request(vec![otlp::part(Vec::new(), Vec::new(), &cursor)]);
        record::append(&mut segment, Kind::Logs, 8, 1, &body.encode_to_vec()).unwrap();
        fs::write(spool.join("a.seg"), segment).unwrap();
        let found = Places::resume(&file, &spool);
        assert_eq!(found.of(Identity { dev: 1, ino: 2 }).unwrap().safe, 35);
        assert_eq!(found.of(Identity { dev: 1, ino: 1 }).unwrap().safe, 10);
        assert_eq!(found.journals["j"], "s=1");
    }

    #[test]
    fn a_damaged_file_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("logs.json");
        fs::write(&file, "{").unwrap();
        assert_eq!(Places::resume(&file, dir.path()), Places::default());
    }
}
