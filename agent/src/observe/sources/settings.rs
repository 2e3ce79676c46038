//! `agent.toml`: what may be read, by name. Whatever is not in it is not read.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coral_model::when::parse_duration;
use serde::Deserialize;

use crate::observe::logs::{Format, From, Source, What};
use crate::observe::prometheus::target::{Target, TargetError};
use crate::observe::prometheus::task::Scrape;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Most targets of one agent.
const TARGETS: usize = 64;
/// Shortest and longest time between two scrapes, and the one that is taken when none is named.
const EVERY: (Duration, Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3600), Duration::from_secs(15));

/// Most sources of logs of one agent, and patterns of one.
const SOURCES: usize = 64;
/// Lines a second that are read of a source when nothing is said, and at most.
const LINES: (u64, u64) = (10_000, 1_000_000);

/// What the file names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Metrics to scrape.
    pub scrape: Vec<Scrape>,
    /// Log files and journals to follow.
    pub logs: Vec<Source>,
}

/// Why the file is not followed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, or names something nobody knows.
    #[error("{}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong where.
        message: String,
    },
    /// A target that cannot be asked.
    #[error("{}: [[scrape]] {place}: {source}", file.display())]
    Target {
        /// The file.
        file: PathBuf,
        /// Which entry.
        place: String,
        /// Why.
        source: TargetError,
    },
    /// A value that makes no sense.
    #[error("{}: {place}: {why}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// Which entry.
        place: String,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    scrape: Vec<WrittenScrape>,
    #[serde(default)]
    logs: Vec<WrittenLogs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLogs {
    files: Option<Vec<String>>,
    journal: Option<bool>,
    journal_file: Option<PathBuf>,
    units: Option<Vec<String>>,
    service: Option<String>,
    format: Option<Format>,
    #[serde(default)]
    from: From,
    max_lines_per_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenScrape {
    service: String,
    url: String,
    every: Option<String>,
    allow_host: Option<String>,
}

impl Settings {
    /// Reads the file; without one nothing is named.
    ///
    /// # Errors
    /// When it cannot be read or something in it is wrong; then nothing of it counts.
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let io = |source| SettingsError::Io { file: file.to_owned(), source };
        match std::fs::metadata(file) {
            Ok(meta) if meta.len() > LARGEST => {
                let why = format!("it is larger than {LARGEST} bytes");
                return Err(SettingsError::Value {
                    file: file.to_owned(),
                    place: "file".into(),
                    why,
                });
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(e) => return Err(io(e)),
        }
        Self::parse(file, &std::fs::read_to_string(file).map_err(io)?)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, SettingsError> {
        let written: Written = toml::from_str(text).map_err(|error| SettingsError::Syntax {
            file: file.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let place = Place { file };
        Ok(Self { scrape: place.scrapes(written.scrape)?, logs: place.logs(written.logs)? })
    }
}

struct Place<'a> {
    file: &'a Path,
}

impl Place<'_> {
    fn value(&self, place: &str, why: impl Into<String>) -> SettingsError {
        let (place, why) = (place.to_owned(), why.into());
        SettingsError::Value { file: self.file.to_owned(), place, why }
    }

    fn logs(&self, written: Vec<WrittenLogs>) -> Result<Vec<Source>, SettingsError> {
        if written.len() > SOURCES {
            return Err(self.value("[[logs]]", format!("more than {SOURCES} of them")));
        }
        let mut out: Vec<Source> = Vec::new();
        for (n, logs) in written.into_iter().enumerate() {
            let place = format!("[[logs]] number {}", n + 1);
            let journal = logs.journal == Some(true) || logs.journal_file.is_some();
            let what = match (logs.files, journal) {
                (Some(globs), false) => {
                    self.globs(&place, &globs)?;
                    if logs.units.is_some() {
                        return Err(self.value(&place, "units belong to a journal, not to files"));
                    }
                    What::Files { globs, format: logs.format.unwrap_or_default() }
                }
                (None, true) if logs.format.is_some() => {
                    return Err(self.value(&place, "format belongs to files, not to a journal"));
                }
                (None, true) => What::Journal {
                    units: logs.units.unwrap_or_default(),
                    files: logs.journal_file,
                },
                _ => {
                    let why = "name either files = [\"/var/log/app/*.log\"] or journal = true";
                    return Err(self.value(&place, why));
                }
            };
            let lines_per_s = logs.max_lines_per_s.unwrap_or(LINES.0);
            if !(1..=LINES.1).contains(&lines_per_s) {
                return Err(self.value(&place, "max_lines_per_s may be from 1 to 1000000"));
            }
            let mut sense = format!("logs/{}", name_of(logs.service.as_deref(), &what));
            if out.iter().any(|other| other.sense == sense) {
                sense = format!("{sense} {}", n + 1);
            }
            out.push(Source { sense, service: logs.service, from: logs.from, lines_per_s, what });
        }
        let mut keys: Vec<String> = out.iter().map(Source::key).collect();
        keys.sort();
        keys.dedup();
        if keys.len() < out.len() {
            return Err(self.value("[[logs]]", "two entries read the same; one of them is enough"));
        }
        Ok(out)
    }

    fn globs(&self, place: &str, globs: &[String]) -> Result<(), SettingsError> {
        if globs.is_empty() || globs.len() > SOURCES {
            return Err(self.value(place, format!("files holds from 1 to {SOURCES} patterns")));
        }
        for pattern in globs {
            if !pattern.starts_with('/') {
                return Err(self.value(place, format!("`{pattern}` does not begin with /")));
            }
            if let Err(error) = glob::Pattern::new(pattern) {
                return Err(self.value(place, format!("`{pattern}`: {error}")));
            }
        }
        Ok(())
    }

    fn scrapes(&self, written: Vec<WrittenScrape>) -> Result<Vec<Scrape>, SettingsError> {
        if written.len() > TARGETS {
            return Err(self.value("[[scrape]]", format!("more than {TARGETS} of them")));
        }
        let mut of_service: BTreeMap<String, usize> = BTreeMap::new();
        for scrape in &written {
            *of_service.entry(scrape.service.clone()).or_default() += 1;
        }
        let mut out = Vec::new();
        for scrape in written {
            let name = format!("`{}`", coral_model::text::fit(&scrape.service, 60));
            let place = format!("[[scrape]] {name}");
            if scrape.service.trim().is_empty() {
                return Err(self.value(&place, "a service has a name"));
            }
            let target = Target::parse(&scrape.url, scrape.allow_host.as_deref());
            let target = target.map_err(|source| {
                let file = self.file.to_owned();
                SettingsError::Target { file, place: name, source }
            })?;
            let every = match scrape.every.as_deref() {
                None => EVERY.2,
                Some(text) => Duration::from_nanos(
                    parse_duration(text).map_err(|e| self.value(&place, e.to_string()))?,
                ),
            };
            if every < EVERY.0 || every > EVERY.1 {
                return Err(self.value(&place, "every = \"15s\" may be from 1s to 1h"));
            }
            let alone = of_service.get(&scrape.service) == Some(&1);
            let sense = if alone {
                format!("scrape/{}", scrape.service)
            } else {
                format!("scrape/{} {}", scrape.service, target.authority())
            };
            out.push(Scrape { service: scrape.service, sense, url: scrape.url, target, every });
        }
        Ok(out)
    }
}

/// What people would call a source.
fn name_of(service: Option<&str>, what: &What) -> String {
    if let Some(service) = service {
        return service.to_owned();
    }
    match what {
        What::Journal { units, .. } => match units.first() {
            Some(unit) => format!("journal {unit}"),
            None => "journal".to_owned(),
        },
        What::Files { globs, .. } => {
            let last = globs.first().and_then(|glob| glob.rsplit('/').next());
            last.unwrap_or("files").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("/etc/agent.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn targets_are_named_with_their_interval() {
        let settings = parse(
            "[[scrape]]\nservice = \"payments\"\nurl = \"http://127.0.0.1:9100/metrics\"\nevery = \"5s\"\n\
             [[scrape]]\nservice = \"cart\"\nurl = \"http://localhost:1/\"\n\
             [[scrape]]\nservice = \"cart\"\nurl = \"http://localhost:2/\"\n",
        )
        .unwrap();
        let of: Vec<_> = settings.scrape.iter().map(|s| (s.sense.as_str(), s.every)).collect();
        assert_eq!(of[0], ("scrape/payments", Duration::from_secs(5)));
        assert_eq!(of[1], ("scrape/cart localhost:1", Duration::from_secs(15)));
        assert_eq!(of[2].0, "scrape/cart localhost:2");
    }

    #[test]
    fn logs_are_files_or_a_journal() {
        let settings = parse(
            "[[logs]]\nfiles = [\"/var/log/shop/*.log\"]\nservice = \"shop\"\nfrom = \"start\"\n\
             [[logs]]\njournal = true\nunits = [\"nginx.service\"]\n\
             [[logs]]\nfiles = [\"/var/log/pods/*/*/*.log\"]\nformat = \"cri\"\nmax_lines_per_s = 5\n",
        )
        .unwrap();
        let of: Vec<_> = settings.logs.iter().map(|s| (s.sense.as_str(), s.lines_per_s)).collect();
        let wanted =
            [("logs/shop", 10_000), ("logs/journal nginx.service", 10_000), ("logs/*.log", 5)];
        assert_eq!(of, wanted);
        for (text, says) in [
            ("[[logs]]\nservice = \"a\"\n", "name either"),
            ("[[logs]]\nfiles = [\"a.log\"]\n", "does not begin with /"),
            ("[[logs]]\nfiles = [\"/a[\"]\n", "`/a[`"),
            ("[[logs]]\nfiles = []\n", "from 1 to 64"),
            ("[[logs]]\njournal = true\nfiles = [\"/a\"]\n", "name either"),
            ("[[logs]]\nfiles = [\"/a\"]\n[[logs]]\nfiles = [\"/a\"]\n", "two entries"),
            ("[[logs]]\nfiles = [\"/a\"]\nformat = \"xml\"\n", "xml"),
            ("[[logs]]\nfiles = [\"/a\"]\nmax_lines_per_s = 0\n", "from 1 to"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("[[scrape]]\nservice = \"a\"\n", "url"),
            ("[[scrap]]\nservice = \"a\"\n", "scrap"),
            ("[[scrape]]\nservice = \"a\"\nurl = \"ftp://h\"\n", "`a`: `ftp://h` is no address"),
            (
                "[[scrape]]\nservice = \"a\"\nurl = \"http://h/\"\nevery = \"1ms\"\n",
                "from 1s to 1h",
            ),
            ("[[scrape]]\nservice = \" \"\nurl = \"http://h/\"\n", "has a name"),
            ("nonsense", "agent.toml"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(Settings::read(Path::new("/nowhere/agent.toml")).unwrap(), Settings::default());
    }
}
