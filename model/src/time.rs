//! Moments and windows, in nanoseconds since the Unix epoch.
//!
//! Telemetry carries time as unsigned nanoseconds; Coral keeps that, and turns it into RFC 3339 only
//! where a person or a script reads it. What a person *types* as a time is understood in
//! [`crate::when`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLI: u64 = 1_000_000;
/// The width of the finest RED bucket the store keeps.
pub const BUCKET: u64 = 10 * SECOND;

/// A moment: nanoseconds since the Unix epoch. JSON shows it as RFC 3339 with offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// The largest moment.
    pub const MAX: Self = Self(u64::MAX);

    /// From a signed count, as databases hold it; negative becomes the epoch.
    #[must_use]
    pub fn from_i64(ns: i64) -> Self {
        Self(u64::try_from(ns).unwrap_or(0))
    }

    /// As a signed count, as databases hold it; saturates in the year 2262.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// The wall clock now. Only programs' edges call this; cores are handed their time.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| crate::num::u64_sat(d.as_nanos())))
    }

    /// Later by `ns`.
    #[must_use]
    pub fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Earlier by `ns`, not before the epoch.
    #[must_use]
    pub fn minus(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }

    /// Nanoseconds from `earlier` to this; 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The last multiple of `step` at or before this moment.
    #[must_use]
    pub fn align(self, step: u64) -> Self {
        Self(self.0 - self.0.checked_rem(step).unwrap_or(0))
    }

    fn timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).ok()
    }

    /// RFC 3339 in UTC, with as many decimals as it needs.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.timestamp().map_or_else(|| self.0.to_string(), |t| t.to_string())
    }

    /// `HH:MM:SS` in the given zone.
    #[must_use]
    pub fn clock(self, zone: &jiff::tz::TimeZone) -> String {
        self.format(zone, "%H:%M:%S")
    }

    /// Any `strftime` format in the given zone.
    #[must_use]
    pub fn format(self, zone: &jiff::tz::TimeZone, format: &str) -> String {
        self.timestamp().map_or_else(
            || self.0.to_string(),
            |t| t.to_zoned(zone.clone()).strftime(format).to_string(),
        )
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let parsed: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        let ns = u64::try_from(parsed.as_nanosecond()).map_err(serde::de::Error::custom)?;
        Ok(Self(ns))
    }
}

/// A half-open stretch of time: `from <= t < to`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// First moment inside.
    pub from: Time,
    /// First moment after.
    pub to: Time,
}

impl Window {
    /// From `from` to `to`; the two are swapped when out of order.
    #[must_use]
    pub fn new(from: Time, to: Time) -> Self {
        if from <= to { Self { from, to } } else { Self { from: to, to: from } }
    }

    /// The `length` nanoseconds before `to`.
    #[must_use]
    pub fn before(to: Time, length: u64) -> Self {
        Self { from: to.minus(length), to }
    }

    /// Length in nanoseconds.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.to.since(self.from)
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        crate::num::f64_from(self.length()) / 1e9
    }

    /// Whether `t` lies inside.
    #[must_use]
    pub fn contains(&self, t: Time) -> bool {
        self.from <= t && t < self.to
    }

    /// The equally long window that ends where this one begins.
    #[must_use]
    pub fn previous(&self) -> Self {
        Self::before(self.from, self.length())
    }

    /// Widened outwards to multiples of `step`.
    #[must_use]
    pub fn align(&self, step: u64) -> Self {
        let to = self.to.align(step);
        let to = if to == self.to { to } else { to.plus(step) };
        Self { from: self.from.align(step), to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_as_rfc3339() {
        let t = Time(1_700_000_000_123_456_789);
        let json = serde_json::to_string(&t).unwrap();
        assert_eq!(json, "\"2023-11-14T22:13:20.123456789Z\"");
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), t);
    }

    #[test]
    fn a_window_aligns_outwards() {
        let w = Window::new(Time(15), Time(21)).align(10);
        assert_eq!((w.from, w.to), (Time(10), Time(30)));
        assert_eq!(Window::new(Time(10), Time(20)).align(10).to, Time(20));
    }
}
