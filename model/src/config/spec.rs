//! What can be set: one table for reading, checking, explaining and documenting.

use std::net::SocketAddr;

use super::retention::kept;
use crate::filter::nearest as nearest_word;
use crate::paths::ColonyName;
use crate::text::parse_bytes;
use crate::when::{parse_duration, print_duration};

/// Nanoseconds in a day.
const DAY: u64 = 86_400_000_000_000;

/// The form of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// A colony's name.
    Colony,
    /// `auto`, `off`, or `address:port`.
    Listen,
    /// A duration.
    Duration,
    /// A duration, told in days where it is whole ones.
    Age,
    /// `auto`, or a number of bytes.
    Bytes,
    /// `true` or `false`.
    Switch,
    /// Any text.
    Text,
    /// A text that is never shown.
    Secret,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its key in files; `ui.theme` is `theme` under `[ui]`.
    pub key: &'static str,
    /// The form of its value.
    pub form: Setting,
    /// Its value when nobody says.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Every setting, in the order they are shown.
pub const ALL: &[Spec] = &[
    Spec {
        key: "colony",
        form: Setting::Colony,
        default: ColonyName::DEFAULT,
        help: "the colony that is asked when none is named",
    },
    Spec {
        key: "otlp.grpc",
        form: Setting::Listen,
        default: "auto",
        help: "where the local agent takes OTLP over gRPC: auto (4317, else a free port), off, or address:port",
    },
    Spec {
        key: "otlp.http",
        form: Setting::Listen,
        default: "auto",
        help: "where the local agent takes OTLP over HTTP: auto (4318, else a free port), off, or address:port",
    },
    Spec {
        key: "leave_after",
        form: Setting::Duration,
        default: "10m",
        help: "a colony that nobody told to stay leaves this long after its last viewer and record",
    },
    kept("retention.spans", "7d", "the colony keeps spans this long"),
    kept("retention.logs", "7d", "the colony keeps log records this long"),
    kept("retention.metrics", "7d", "the colony keeps metric points this long"),
    kept("retention.red_10s", "2d", "the colony keeps requests and edges by 10 s this long"),
    kept("retention.red_1m", "14d", "the colony keeps requests and edges by the minute this long"),
    kept("retention.red_1h", "400d", "the colony keeps requests and edges by the hour this long"),
    kept("retention.events", "400d", "the colony keeps events this long"),
    kept("retention.inflight", "2d", "the colony keeps requests in flight this long"),
    kept("retention.hosts", "7d", "the colony keeps readings of hosts this long"),
    Spec {
        key: "disk.max",
        form: Setting::Bytes,
        default: "auto",
        help: "what the colony may take of the disk: auto (2 GiB, or 10 % of what is free), or like 20GiB",
    },
    Spec {
        key: "window",
        form: Setting::Duration,
        default: "15m",
        help: "the window that is shown when none is named",
    },
    Spec {
        key: "utc",
        form: Setting::Switch,
        default: "false",
        help: "clocks show UTC instead of the local zone",
    },
    Spec {
        key: "ui.theme",
        form: Setting::Text,
        default: "auto",
        help: "theme of the screen: auto, the name of a built-in one, or of a file in themes/",
    },
    Spec { key: "ui.ascii", form: Setting::Switch, default: "false", help: "draw with ASCII only" },
    Spec {
        key: "ui.mouse",
        form: Setting::Switch,
        default: "true",
        help: "the mouse works on the screen (one key gives it back to the terminal)",
    },
];

impl Spec {
    /// The setting of a key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        ALL.iter().find(|spec| spec.key == key)
    }

    /// The known key nearest to one that is not known.
    #[must_use]
    pub fn nearest(key: &str) -> Option<&'static str> {
        let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
        nearest_word(key, ALL.iter().map(|spec| spec.key)).or_else(|| {
            // `theme` for `ui.theme`.
            ALL.iter().map(|spec| spec.key).find(|known| last(known) == key)
        })
    }

    /// Its environment variable: `ui.theme` is `CORAL_UI_THEME`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("CORAL_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The value in its usual spelling.
    ///
    /// # Errors
    /// What was expected.
    pub fn check(&self, value: &str) -> Result<String, String> {
        let value = value.trim();
        match self.form {
            Setting::Colony => {
                value.parse::<ColonyName>().map(|n| n.to_string()).map_err(|e| e.to_string())
            }
            Setting::Listen => match value {
                "auto" | "off" => Ok(value.to_owned()),
                address => address
                    .parse::<SocketAddr>()
                    .map(|a| a.to_string())
                    .map_err(|_| "auto, off, or an address like 127.0.0.1:4317".to_owned()),
            },
            Setting::Duration => {
                parse_duration(value).map(print_duration).map_err(|e| e.to_string())
            }
            Setting::Age => match parse_duration(value) {
                Ok(ns) if ns > 0 && ns % DAY == 0 => Ok(format!("{}d", ns / DAY)),
                Ok(ns) => Ok(print_duration(ns)),
                Err(error) => Err(error.to_string()),
            },
            Setting::Bytes => match (value, parse_bytes(value)) {
                ("auto", _) => Ok(value.to_owned()),
                (_, Some(n)) if n >= 64 << 20 => Ok(value.to_owned()),
                _ => Err("auto, or at least 64MiB, like 20GiB".to_owned()),
            },
            Setting::Switch => match value {
                "true" | "1" | "yes" | "on" => Ok("true".to_owned()),
                "false" | "0" | "no" | "off" => Ok("false".to_owned()),
                _ => Err("true or false".to_owned()),
            },
            Setting::Text | Setting::Secret => Ok(value.to_owned()),
        }
    }

    /// The value as it may be shown.
    #[must_use]
    pub fn shown(&self, value: &str) -> String {
        match self.form {
            Setting::Secret if !value.is_empty() => "(set, not shown)".to_owned(),
            _ => value.to_owned(),
        }
    }
}

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// The usual port, else a free one.
    Auto,
    /// Nowhere.
    Off,
    /// Exactly here; taken is an error.
    At(SocketAddr),
}

impl Listen {
    /// From a checked value.
    pub(super) fn of(value: &str) -> Self {
        match value.parse() {
            Ok(address) => Self::At(address),
            Err(_) if value == "off" => Self::Off,
            Err(_) => Self::Auto,
        }
    }

    /// The argument a program is given; none for `auto`, which is what it does by itself.
    #[must_use]
    pub fn argument(self) -> Option<String> {
        match self {
            Self::Auto => None,
            Self::Off => Some("off".to_owned()),
            Self::At(address) => Some(address.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let spec = Spec { key: "x", form: Setting::Secret, default: "", help: "" };
        assert!(!spec.shown("hunter2").contains("hunter2"));
        assert_eq!(spec.shown(""), "");
    }

    #[test]
    fn names_follow_from_keys() {
        assert_eq!(Spec::find("ui.theme").map(Spec::env).as_deref(), Some("CORAL_UI_THEME"));
        assert_eq!(Spec::nearest("theme"), Some("ui.theme"));
        assert_eq!(Spec::nearest("colny"), Some("colony"));
        assert_eq!(Spec::nearest("nothing.alike"), None);
    }
}
