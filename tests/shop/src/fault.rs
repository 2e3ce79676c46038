//! What can be broken, and how a person says it.
//!
//! A [`Fault`] is one switch with its value; a [`FaultSet`] is everything that is switched on in one
//! service, sent whole to the service at each change. Nothing here breaks anything: `effects` does.

use serde::{Deserialize, Serialize};

/// The most that the leak may grow to: the demo must not harm the machine that it runs on.
pub const LEAK_CAP_MB: u64 = 300;
/// Threads of the CPU hog, at most.
pub const CPU_CAP: u64 = 16;
/// The pool fault keeps each connection this long after its last query.
pub const POOL_HOLD_MS: u64 = 500;

/// The services, in the order in which they start.
pub const SERVICES: [&str; 5] = ["payments", "catalog", "shipping", "checkout", "gateway"];

/// One switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every request waits this long first.
    Latency { ms: u64 },
    /// This share of requests fails.
    Errors { percent: u64 },
    /// This share of requests is never answered.
    Hang { percent: u64 },
    /// Threads that spin.
    Cpu { threads: u64 },
    /// The connection pool shrinks to this size and each lease is held long.
    Pool { connections: u64 },
    /// Memory grows to this size.
    Leak { mb: u64 },
    /// The process aborts this long after each start.
    Crash { after_ms: u64 },
    /// The name of the service behind is wrong.
    Dns,
    /// Another version is rolled out; a suffix (`v42-bad`, `v42-pool`) makes it a worse one.
    Deploy { version: String },
}

/// One line of `coral-shop fault list`.
pub struct FaultSpec {
    pub name: &'static str,
    pub value: &'static str,
    pub default: &'static str,
    pub what: &'static str,
}

/// Every switch there is; `Fault::parse` accepts exactly these names.
pub const CATALOGUE: [FaultSpec; 9] = [
    FaultSpec {
        name: "latency",
        value: "ms",
        default: "400",
        what: "each request waits before its work",
    },
    FaultSpec {
        name: "errors",
        value: "percent",
        default: "30",
        what: "that share of requests fails",
    },
    FaultSpec {
        name: "hang",
        value: "percent",
        default: "100",
        what: "requests are never answered, after their child calls are done",
    },
    FaultSpec {
        name: "cpu",
        value: "threads",
        default: "2",
        what: "threads spin and eat the processor",
    },
    FaultSpec {
        name: "pool",
        value: "connections",
        default: "2",
        what: "payments only: the pool shrinks and each connection is held half a second",
    },
    FaultSpec {
        name: "leak",
        value: "MB",
        default: "300",
        what: "memory grows by 24 MB a second up to that size (300 at most)",
    },
    FaultSpec {
        name: "crash",
        value: "ms",
        default: "1500",
        what: "the process aborts, again and again, so long after each start",
    },
    FaultSpec {
        name: "dns",
        value: "-",
        default: "-",
        what: "the name of the service behind becomes wrong (paymets.shop.invalid)",
    },
    FaultSpec {
        name: "deploy",
        value: "version",
        default: "v42-bad",
        what: "restarts with another version; v42-bad is slow and fails, v42-pool has a tiny pool",
    },
];

/// Why a fault was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FaultError {
    /// No such switch.
    #[error("no fault is called {0:?}; `coral-shop fault list` shows them")]
    Unknown(String),
    /// No such service.
    #[error("no service is called {0:?}; there are gateway, catalog, checkout, payments, shipping")]
    Service(String),
    /// The value does not fit the switch.
    #[error("{fault} takes {wanted}, not {got:?}")]
    Value { fault: &'static str, wanted: &'static str, got: String },
    /// The service has nothing of the kind.
    #[error("{0} has no connection pool; only payments has one")]
    NoPool(String),
}

impl Fault {
    /// Reads a fault as it is written on the command line, for the service that is to have it.
    ///
    /// # Errors
    /// Says which word is wrong and what would be right.
    pub fn parse(service: &str, name: &str, value: Option<&str>) -> Result<Self, FaultError> {
        if !SERVICES.contains(&service) {
            return Err(FaultError::Service(service.to_owned()));
        }
        let fault = match name {
            "latency" => {
                Self::Latency { ms: number("latency", value, 400, 1..=60_000, "1..60000 ms")? }
            }
            "errors" => Self::Errors { percent: number("errors", value, 30, 0..=100, "0..100 %")? },
            "hang" => Self::Hang { percent: number("hang", value, 100, 0..=100, "0..100 %")? },
            "cpu" => Self::Cpu { threads: number("cpu", value, 2, 0..=CPU_CAP, "0..16 threads")? },
            "pool" if service != "payments" => return Err(FaultError::NoPool(service.to_owned())),
            "pool" => {
                Self::Pool { connections: number("pool", value, 2, 1..=10, "1..10 connections")? }
            }
            "leak" => {
                Self::Leak { mb: number("leak", value, LEAK_CAP_MB, 1..=LEAK_CAP_MB, "1..300 MB")? }
            }
            "crash" => {
                Self::Crash { after_ms: number("crash", value, 1_500, 0..=60_000, "0..60000 ms")? }
            }
            "dns" => match value {
                None => Self::Dns,
                Some(got) => {
                    return Err(FaultError::Value {
                        fault: "dns",
                        wanted: "no value",
                        got: got.to_owned(),
                    });
                }
            },
            "deploy" => {
                let version = value.unwrap_or("v42-bad");
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
                if version.is_empty() || version.len() > 64 || !version.chars().all(plain) {
                    return Err(FaultError::Value {
                        fault: "deploy",
                        wanted: "a version such as v42 or v42-bad",
                        got: version.to_owned(),
                    });
                }
                Self::Deploy { version: version.to_owned() }
            }
            other => return Err(FaultError::Unknown(other.to_owned())),
        };
        Ok(fault)
    }
}

fn number(
    fault: &'static str,
    value: Option<&str>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    wanted: &'static str,
) -> Result<u64, FaultError> {
    let Some(text) = value else { return Ok(default) };
    let digits = text.trim_end_matches(|c: char| c == '%' || c.is_ascii_alphabetic());
    match digits.parse::<u64>() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(FaultError::Value { fault, wanted, got: text.to_owned() }),
    }
}

/// Everything that is switched on in one service. The version is not in here: it needs a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultSet {
    pub latency_ms: u64,
    pub errors_percent: u64,
    pub hang_percent: u64,
    pub cpu_threads: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_connections: Option<u64>,
    pub leak_mb: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_after_ms: Option<u64>,
    pub dns: bool,
}

impl FaultSet {
    /// Switches one fault on; a deploy changes nothing here.
    pub fn apply(&mut self, fault: &Fault) {
        match fault {
            Fault::Latency { ms } => self.latency_ms = *ms,
            Fault::Errors { percent } => self.errors_percent = *percent,
            Fault::Hang { percent } => self.hang_percent = *percent,
            Fault::Cpu { threads } => self.cpu_threads = *threads,
            Fault::Pool { connections } => self.pool_connections = Some(*connections),
            Fault::Leak { mb } => self.leak_mb = *mb,
            Fault::Crash { after_ms } => self.crash_after_ms = Some(*after_ms),
            Fault::Dns => self.dns = true,
            Fault::Deploy { .. } => {}
        }
    }

    /// What a version brings with it by its suffix, on top of what is switched on by hand.
    pub fn with_version(&self, service: &str, version: &str) -> Self {
        let mut set = self.clone();
        let Some((_, suffix)) = version.rsplit_once('-') else { return set };
        if suffix == "bad" {
            set.latency_ms = set.latency_ms.max(300);
            set.errors_percent = set.errors_percent.max(20);
        } else if let Ok(fault) = Fault::parse(service, suffix, None) {
            set.apply(&fault);
        }
        set
    }
}

/// As a person reads it: what is on, or that nothing is.
impl std::fmt::Display for FaultSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = |n: u64| (n > 0).then_some(n);
        let parts: Vec<String> = [
            some(self.latency_ms).map(|n| format!("latency {n} ms")),
            some(self.errors_percent).map(|n| format!("errors {n} %")),
            some(self.hang_percent).map(|n| format!("hang {n} %")),
            some(self.cpu_threads).map(|n| format!("cpu {n} threads")),
            self.pool_connections.map(|n| format!("pool of {n}")),
            some(self.leak_mb).map(|n| format!("leak to {n} MB")),
            self.crash_after_ms.map(|n| format!("crash {n} ms after each start")),
            self.dns.then(|| "dns name wrong".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(if parts.is_empty() { "no fault" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_fault_parses_with_its_default() {
        for spec in &CATALOGUE {
            let default = (spec.default != "-").then_some(spec.default);
            let bare = Fault::parse("payments", spec.name, None).unwrap();
            let full = Fault::parse("payments", spec.name, default).unwrap();
            assert_eq!(bare, full, "{}", spec.name);
        }
    }

    #[test]
    fn values_keep_their_units_and_bounds() {
        assert_eq!(
            Fault::parse("catalog", "latency", Some("250ms")),
            Ok(Fault::Latency { ms: 250 })
        );
        assert_eq!(Fault::parse("catalog", "errors", Some("7%")), Ok(Fault::Errors { percent: 7 }));
        assert!(Fault::parse("catalog", "errors", Some("101")).is_err());
        assert!(Fault::parse("catalog", "leak", Some("301")).is_err());
        assert!(Fault::parse("catalog", "latency", Some("-1")).is_err());
        assert!(Fault::parse("catalog", "latency", Some("")).is_err());
        assert!(Fault::parse("catalog", "dns", Some("x")).is_err());
        assert!(Fault::parse("catalog", "deploy", Some("v1; rm")).is_err());
    }

    #[test]
    fn a_refusal_names_what_is_wrong() {
        assert_eq!(
            Fault::parse("catalog", "pool", None),
            Err(FaultError::NoPool("catalog".to_owned()))
        );
        assert_eq!(
            Fault::parse("catalogue", "latency", None),
            Err(FaultError::Service("catalogue".to_owned()))
        );
        let text = Fault::parse("catalog", "flood", None).unwrap_err().to_string();
        assert!(text.contains("\"flood\"") && text.contains("fault list"), "{text}");
    }

    #[test]
    fn a_version_brings_its_suffix() {
        let none = FaultSet::default();
        assert_eq!(none.with_version("payments", "v42"), none);
        let bad = none.with_version("payments", "v42-bad");
        assert_eq!((bad.latency_ms, bad.errors_percent), (300, 20));
        assert_eq!(none.with_version("payments", "v42-pool").pool_connections, Some(2));
        assert_eq!(none.with_version("catalog", "v42-pool"), none);
        let mut slow = FaultSet::default();
        slow.apply(&Fault::Latency { ms: 900 });
        assert_eq!(slow.with_version("payments", "v42-bad").latency_ms, 900);
    }

    #[test]
    fn a_set_reads_as_words() {
        let mut set = FaultSet::default();
        assert_eq!(set.to_string(), "no fault");
        set.apply(&Fault::Pool { connections: 2 });
        set.apply(&Fault::Latency { ms: 300 });
        assert_eq!(set.to_string(), "latency 300 ms, pool of 2");
    }

    #[test]
    fn a_set_survives_the_wire() {
        let mut set = FaultSet::default();
        for spec in &CATALOGUE {
            set.apply(&Fault::parse("payments", spec.name, None).unwrap());
        }
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<FaultSet>(&text).unwrap(), set);
        assert_eq!(serde_json::from_str::<FaultSet>("{}").unwrap(), FaultSet::default());
    }
}
