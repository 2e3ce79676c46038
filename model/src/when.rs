//! What a person types as a time.
//!
//! `now`, `14:02`, `14:02:31`, `-2h`, `yesterday 14:00`, `2026-11-22 14:00`, RFC 3339, epoch seconds,
//! milliseconds or nanoseconds; durations like `15m` and `1h30m`. The zone and the present are handed
//! in ([`Clock`]), so the same words give the same moment in a test and in the field.

use jiff::civil;
use jiff::tz::TimeZone;

use crate::num::{f64_from, u64_from_f64};
use crate::time::{SECOND, Time, Window};

/// Why a text is no time, duration or window.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WhenError {
    /// No form of time fits.
    #[error(
        "`{0}` is not a time; try 14:02, -2h, `yesterday 14:00`, 2026-11-22T14:02:31Z, epoch seconds or milliseconds"
    )]
    NotATime(String),
    /// It has the form of a time, of which there is none.
    #[error("`{text}` is not a time: {why}")]
    NoSuchTime {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// No duration.
    #[error("`{text}` is not a duration: {why}; write it like 15m, 1h30m, 250ms or 2d")]
    NotADuration {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nothing that a window can be compared with.
    #[error(
        "`{0}` is nothing to compare with; try previous, yesterday, 1d (the same window a day \
         earlier), 13:40..13:55, build or build:v41..v42"
    )]
    NotAComparison(String),
    /// Nothing lies between the two.
    #[error("nothing lies between {from} and {to}: the window ends before it begins")]
    Empty {
        /// Where it should begin.
        from: Time,
        /// Where it should end.
        to: Time,
    },
    /// More was said than fits together.
    #[error("{0}")]
    Conflict(&'static str),
}

/// The present, and the zone in which a clock on the wall shows it.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Now.
    pub now: Time,
    /// The person's zone.
    pub zone: TimeZone,
}

impl Clock {
    /// The machine's clock and zone. Only programs' edges call this.
    #[must_use]
    pub fn system(utc: bool) -> Self {
        let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
        Self { now: Time::now(), zone }
    }

    fn today(&self) -> civil::Date {
        let now = jiff::Timestamp::from_nanosecond(i128::from(self.now.0)).unwrap_or_default();
        now.to_zoned(self.zone.clone()).date()
    }

    /// The civil time's moment in `zone`; in the hour a clock skips, the one after it.
    fn at(&self, when: civil::DateTime, zone: Option<&TimeZone>) -> Option<Time> {
        let zoned = when.to_zoned(zone.unwrap_or(&self.zone).clone()).ok()?;
        u64::try_from(zoned.timestamp().as_nanosecond()).ok().map(Time)
    }
}

/// Understands a moment.
///
/// A time of day without a date is the last such moment: `23:50` typed at 00:10 is yesterday's.
///
/// # Errors
/// [`WhenError`] that says what was typed and what could be.
pub fn parse_time(text: &str, clock: &Clock) -> Result<Time, WhenError> {
    let t = text.trim();
    let not = || WhenError::NotATime(crate::text::fit(text, 80));
    match t {
        "" => return Err(not()),
        "now" => return Ok(clock.now),
        "today" => return clock.at(clock.today().into(), None).ok_or_else(not),
        "yesterday" => return yesterday(clock, civil::Time::midnight(), None).ok_or_else(not),
        _ => {}
    }
    if let Some(ago) = t.strip_prefix("now-").or_else(|| t.strip_prefix('-')) {
        return Ok(clock.now.minus(parse_duration(ago)?));
    }
    if let Some(ahead) = t.strip_prefix("now+").or_else(|| t.strip_prefix('+')) {
        return Ok(clock.now.plus(parse_duration(ahead)?));
    }
    if let Some(ago) = t.strip_suffix(" ago") {
        return Ok(clock.now.minus(parse_duration(ago.trim())?));
    }
    if t.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return epoch(t).ok_or_else(not);
    }
    if let Ok(timestamp) = t.parse::<jiff::Timestamp>() {
        return u64::try_from(timestamp.as_nanosecond())
            .map(Time)
            .map_err(|_| no_such(text, &"it is before 1970"));
    }
    let (t, zone) = utc_suffix(t);
    if let Some(time) = t.strip_prefix("yesterday ") {
        let time = time_of_day(time.trim(), text)?.ok_or_else(not)?;
        return yesterday(clock, time, zone.as_ref()).ok_or_else(not);
    }
    if let Some(time) = t.strip_prefix("today ") {
        let time = time_of_day(time.trim(), text)?.ok_or_else(not)?;
        return clock
            .at(day(clock, zone.as_ref()).to_datetime(time), zone.as_ref())
            .ok_or_else(not);
    }
    if let Some(time) = time_of_day(t, text)? {
        let today = day(clock, zone.as_ref());
        let moment = clock.at(today.to_datetime(time), zone.as_ref()).ok_or_else(not)?;
        if moment <= clock.now {
            return Ok(moment);
        }
        return yesterday(clock, time, zone.as_ref()).ok_or_else(not);
    }
    civil_time(t, text)?.and_then(|when| clock.at(when, zone.as_ref())).ok_or_else(not)
}

fn no_such(text: &str, why: &dyn std::fmt::Display) -> WhenError {
    WhenError::NoSuchTime { text: crate::text::fit(text, 80), why: why.to_string() }
}

/// `Z` or `UTC` behind a time without offset.
fn utc_suffix(t: &str) -> (&str, Option<TimeZone>) {
    for suffix in ["UTC", "utc", "Z", "z"] {
        if let Some(rest) = t.strip_suffix(suffix) {
            return (rest.trim_end(), Some(TimeZone::UTC));
        }
    }
    (t, None)
}

/// Today, in `zone` or the clock's own.
fn day(clock: &Clock, zone: Option<&TimeZone>) -> civil::Date {
    match zone {
        Some(zone) => Clock { now: clock.now, zone: zone.clone() }.today(),
        None => clock.today(),
    }
}

fn yesterday(clock: &Clock, time: civil::Time, zone: Option<&TimeZone>) -> Option<Time> {
    clock.at(day(clock, zone).yesterday().ok()?.to_datetime(time), zone)
}

/// `14:02`, `14:02:31`, `14:02:31.250`; `None` when it has another form altogether.
fn time_of_day(t: &str, typed: &str) -> Result<Option<civil::Time>, WhenError> {
    let clocklike = t.len() >= 3
        && t.starts_with(|c: char| c.is_ascii_digit())
        && t.find(':').is_some_and(|i| i <= 2)
        && t.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.'));
    if !clocklike {
        return Ok(None);
    }
    let padded = if t.find(':') == Some(1) { format!("0{t}") } else { t.to_owned() };
    padded
        .parse()
        .map(Some)
        .map_err(|_| no_such(typed, &"hours go to 23, minutes and seconds to 59"))
}

/// `2026-11-22`, `2026-11-22 14:00`, `2026-11-22T14:00:31.5`.
fn civil_time(t: &str, typed: &str) -> Result<Option<civil::DateTime>, WhenError> {
    let bytes = t.as_bytes();
    let datelike = bytes.len() >= 10 && bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    if !datelike {
        return Ok(None);
    }
    if bytes.len() == 10 {
        return t
            .parse::<civil::Date>()
            .map(|d| Some(d.to_datetime(civil::Time::midnight())))
            .map_err(|e| no_such(typed, &e));
    }
    t.parse().map(Some).map_err(|e| no_such(typed, &e))
}

/// Seconds (also with decimals), milliseconds, microseconds or nanoseconds since 1970: told apart by
/// how many digits there are, which is unambiguous from 1970-04 (as ms: 11 digits) to 2286.
fn epoch(t: &str) -> Option<Time> {
    if let Some((whole, fraction)) = t.split_once('.') {
        let seconds: u64 = whole.parse().ok()?;
        let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let fraction: u64 = digits.parse().ok()?;
        return seconds.checked_mul(SECOND)?.checked_add(fraction).map(Time);
    }
    let n: u64 = t.parse().ok()?;
    let unit = match t.len() {
        0..=4 => return None, // a year, or a slip; no moment anybody means
        5..=11 => SECOND,
        12..=14 => 1_000_000,
        15..=17 => 1_000,
        _ => 1,
    };
    n.checked_mul(unit).map(Time)
}

/// Units of durations, longest first, with their nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("w", 7 * 86_400 * SECOND),
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Understands a duration: `15m`, `1h30m`, `250ms`, `1.5s`, `2d`. In nanoseconds.
///
/// # Errors
/// [`WhenError::NotADuration`].
pub fn parse_duration(text: &str) -> Result<u64, WhenError> {
    let not = |why| WhenError::NotADuration { text: crate::text::fit(text, 40), why };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(not("there is nothing"));
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits).unwrap_or((rest, ""));
        if number.is_empty() {
            return Err(not("it needs a number before each unit"));
        }
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).unwrap_or((after, ""));
        let unit = match unit {
            "" => return Err(not("it needs a unit")),
            "µs" | "μs" => "us",
            "min" | "mins" => "m",
            "sec" | "secs" => "s",
            unit => unit,
        };
        let Some((_, ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(not("its unit is none of w d h m s ms us ns"));
        };
        total = scaled(number, *ns)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| not("its number cannot be understood"))?;
        rest = after.trim_start();
    }
    Ok(total)
}

/// `number` (decimals allowed) times `unit`, exactly as far as a nanosecond goes.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part = match fraction {
        "" => 0,
        f => u64_from_f64((format!("0.{f}").parse::<f64>().ok()? * f64_from(unit)).round()),
    };
    whole.checked_mul(unit)?.checked_add(part)
}

/// The shortest duration text that reads back as exactly `ns`: `1h30m`, `250ms`, `0s`.
#[must_use]
pub fn print_duration(ns: u64) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let mut rest = ns;
    for (name, unit) in UNITS {
        let n = rest / unit;
        if n > 0 {
            // Writing to a String cannot fail.
            let _ = write!(out, "{n}{name}");
            rest -= n * unit;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// The time flags of a command, as typed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Span<'a> {
    /// `--since 15m`: length up to the end, or a moment to begin at.
    pub since: Option<&'a str>,
    /// `--from 14:02`.
    pub from: Option<&'a str>,
    /// `--to 14:10`.
    pub to: Option<&'a str>,
    /// `--around 14:02`.
    pub around: Option<&'a str>,
}

impl Span<'_> {
    /// Whether nothing was said, or only how long: then the window ends now and may slide.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.from.is_none() && self.around.is_none() && self.to.is_none_or(|to| to.trim() == "now")
    }
}

/// The window that the flags mean; `default` nanoseconds up to now when they say nothing.
///
/// # Errors
/// [`WhenError`] for what cannot be understood, contradicts itself, or has no length.
pub fn window(span: &Span<'_>, clock: &Clock, default: u64) -> Result<Window, WhenError> {
    let length = |text: Option<&str>| text.map_or(Ok(default), parse_duration);
    let (from, to) = match *span {
        Span { around: Some(_), from, to, .. } if from.is_some() || to.is_some() => {
            return Err(WhenError::Conflict(
                "--around already says where; leave out --from and --to",
            ));
        }
        Span { around: Some(at), since, .. } => {
            // Half of the length on either side.
            let at = parse_time(at, clock)?;
            let half = length(since)? / 2;
            (at.minus(half), at.plus(half))
        }
        Span { from: Some(_), to: Some(_), since: Some(_), .. } => {
            return Err(WhenError::Conflict("of --since, --from and --to, two say it all"));
        }
        Span { from: Some(from), to: Some(to), .. } => {
            let from = parse_time(from, clock)?;
            (from, end_after(from, to, clock)?)
        }
        Span { from: Some(from), since: Some(length), .. } => {
            let from = parse_time(from, clock)?;
            (from, from.plus(parse_duration(length)?))
        }
        Span { from: Some(from), .. } => (parse_time(from, clock)?, clock.now),
        Span { to, since, .. } => {
            let to = to.map_or(Ok(clock.now), |to| parse_time(to, clock))?;
            match since {
                // `--since 14:02` says the same as `--from 14:02`.
                Some(text) => match parse_duration(text) {
                    Ok(ns) => (to.minus(ns), to),
                    Err(e) => (parse_time(text, clock).map_err(|_| e)?, to),
                },
                None => (to.minus(default), to),
            }
        }
    };
    if to <= from {
        return Err(WhenError::Empty { from, to });
    }
    Ok(Window { from, to })
}

/// The end of a window that begins at `from`. A bare time of day may be of the next day, so that
/// `--from 23:50 --to 00:10` is twenty minutes; but `--from 23:20 --to 23:10` is a slip, not a
/// window of nearly a day: it lies across midnight only where that is the shorter way.
fn end_after(from: Time, to: &str, clock: &Clock) -> Result<Time, WhenError> {
    let end = parse_time(to, clock)?;
    let bare = time_of_day(utc_suffix(to.trim()).0, to)?.is_some();
    let next_day = end.plus(86_400 * SECOND);
    let shorter = next_day > from && next_day.since(from) < from.since(end);
    if bare && end <= from && shorter { Ok(next_day) } else { Ok(end) }
}

/// What `--compare` means for an answer over `window`: the equal window before it (nothing said, or
/// `previous`), the same window `1d` or `yesterday` earlier, or a window of its own `a..b`.
///
/// # Errors
/// [`WhenError`].
pub fn compare(text: &str, window: Window, clock: &Clock) -> Result<Window, WhenError> {
    let shifted = |ns| Window { from: window.from.minus(ns), to: window.to.minus(ns) };
    match text.trim() {
        "" | "previous" | "before" => Ok(window.previous()),
        "yesterday" => Ok(shifted(86_400 * SECOND)),
        "last week" | "lastweek" => Ok(shifted(7 * 86_400 * SECOND)),
        text => {
            if let Some((from, to)) = text.split_once("..") {
                let from = parse_time(from, clock)?;
                let to = end_after(from, to, clock)?;
                if to <= from {
                    return Err(WhenError::Empty { from, to });
                }
                return Ok(Window { from, to });
            }
            let earlier = parse_duration(text.trim_start_matches('-'));
            earlier.map(shifted).map_err(|_| WhenError::NotAComparison(crate::text::fit(text, 80)))
        }
    }
}

/// Rounds a step so that a window has at most `most` buckets; never finer than a RED bucket.
#[must_use]
pub fn step_for(window: &Window, most: u64) -> u64 {
    let wanted = window.length().div_ceil(most.max(1));
    wanted.div_ceil(crate::time::BUCKET).max(1) * crate::time::BUCKET
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 13:15:00 in New York, 18:15 UTC.
    fn clock() -> Clock {
        let zone = TimeZone::get("America/New_York").unwrap();
        let now: jiff::Timestamp = "2026-11-22T18:15:00Z".parse().unwrap();
        Clock { now: Time(u64::try_from(now.as_nanosecond()).unwrap()), zone }
    }

    fn t(text: &str) -> String {
        parse_time(text, &clock()).map_or_else(|e| format!("error: {e}"), |t| t.to_string())
    }

    #[test]
    fn what_people_type_is_understood() {
        for (typed, meant) in [
            ("now", "2026-11-22T18:15:00Z"),
            ("12:02", "2026-11-22T17:02:00Z"),
            ("9:05", "2026-11-22T14:05:00Z"),
            ("12:02:31", "2026-11-22T17:02:31Z"),
            ("12:02:31.250", "2026-11-22T17:02:31.25Z"),
            // Later than now on the wall: yesterday's.
            ("23:50", "2026-11-22T04:50:00Z"),
            ("14:02Z", "2026-11-22T14:02:00Z"),
            ("14:02:31 UTC", "2026-11-22T14:02:31Z"),
            ("-2h", "2026-11-22T16:15:00Z"),
            ("-1h30m", "2026-11-22T16:45:00Z"),
            ("now-90s", "2026-11-22T18:13:30Z"),
            ("2h ago", "2026-11-22T16:15:00Z"),
            ("yesterday 14:00", "2026-11-21T19:00:00Z"),
            ("yesterday", "2026-11-21T05:00:00Z"),
            ("today 01:00", "2026-11-22T06:00:00Z"),
            ("2026-11-22 14:00", "2026-11-22T19:00:00Z"),
            ("2026-11-22T14:00:31", "2026-11-22T19:00:31Z"),
            ("2026-11-22", "2026-11-22T05:00:00Z"),
            ("2026-11-22T14:02:31+01:00", "2026-11-22T13:02:31Z"),
            ("2026-11-22T14:02:31.123456789Z", "2026-11-22T14:02:31.123456789Z"),
            ("1763820000", "2025-11-22T14:00:00Z"),
            ("1763820000.25", "2025-11-22T14:00:00.25Z"),
            ("1763820000123", "2025-11-22T14:00:00.123Z"),
            ("1763820000123456789", "2025-11-22T14:00:00.123456789Z"),
            // The hour that New York's clocks skip and the one they repeat.
            ("2026-03-08 02:30", "2026-03-08T07:30:00Z"),
            ("2026-11-01 01:30", "2026-11-01T05:30:00Z"),
        ] {
            assert_eq!(t(typed), meant, "{typed}");
        }
    }

    #[test]
    fn what_is_no_time_says_so() {
        for bad in ["", "soon", "25:00", "12:61", "-2", "2026-13-01", "12", "99999999999999999999"]
        {
            assert!(t(bad).starts_with("error: `"), "{bad}: {}", t(bad));
        }
        assert!(t("25:00").contains("hours go to 23"), "{}", t("25:00"));
        assert!(t("-2").contains("needs a unit"), "{}", t("-2"));
    }

    #[test]
    fn durations_round_trip() {
        assert_eq!(parse_duration("1h30m"), Ok(5_400 * SECOND));
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("500µs"), Ok(500_000));
        for bad in ["15", "m", "1x", "", "1h-3m", "1..5s", "99999999w"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for ns in [0, 1, 999, 1_001, 5_400 * SECOND, 250_000_000, u64::MAX] {
            assert_eq!(parse_duration(&print_duration(ns)), Ok(ns));
        }
    }

    fn w(span: &Span<'_>) -> Result<Window, WhenError> {
        window(span, &clock(), 900 * SECOND)
    }

    #[test]
    fn flags_make_a_window() {
        let now = clock().now;
        let at = |t: &str| parse_time(t, &clock()).unwrap();
        let base = Span::default();
        assert_eq!(w(&base), Ok(Window::before(now, 900 * SECOND)));
        assert!(base.is_live());
        let since = Span { since: Some("2h"), ..base };
        assert_eq!(w(&since), Ok(Window::before(now, 7_200 * SECOND)));
        let from_to = Span { from: Some("12:00"), to: Some("12:10"), ..base };
        assert_eq!(w(&from_to), Ok(Window::new(at("12:00"), at("12:10"))));
        // Across midnight, and into the future.
        let night = Span { from: Some("23:50"), to: Some("00:10"), ..base };
        assert_eq!(w(&night).unwrap().length(), 1_200 * SECOND);
        let ahead = Span { from: Some("13:00"), to: Some("13:30"), ..base };
        assert_eq!(w(&ahead).unwrap().length(), 1_800 * SECOND);
        let around = Span { around: Some("12:00"), since: Some("10m"), ..base };
        assert_eq!(w(&around).unwrap().from, at("11:55"));
        let then = Span { from: Some("12:00"), since: Some("10m"), ..base };
        assert_eq!(w(&then).unwrap().to, at("12:10"));
        let since_moment = Span { since: Some("12:00"), ..base };
        assert_eq!(w(&since_moment).unwrap().from, at("12:00"));
        let all = Span { from: Some("12:00"), to: Some("12:10"), since: Some("1h"), ..base };
        assert!(matches!(w(&all), Err(WhenError::Conflict(_))));
        let backwards = Span { from: Some("now"), to: Some("-1h"), ..base };
        assert!(matches!(w(&backwards), Err(WhenError::Empty { .. })));
        let slip = Span { from: Some("12:20"), to: Some("12:10"), ..base };
        assert!(matches!(w(&slip), Err(WhenError::Empty { .. })), "{:?}", w(&slip));
    }

    #[test]
    fn comparisons_are_windows_too() {
        let window = Window::before(clock().now, 900 * SECOND);
        let c = |text: &str| compare(text, window, &clock()).unwrap();
        assert_eq!(c(""), window.previous());
        assert_eq!(c("yesterday").length(), window.length());
        assert_eq!(c("1d"), c("yesterday"));
        assert_eq!(c("12:00..12:10").length(), 600 * SECOND);
        let refused = compare("10x", window, &clock()).unwrap_err().to_string();
        assert!(refused.contains("`10x` is nothing to compare with"), "{refused}");
        assert!(compare("12:10..12:00", window, &clock()).is_err());
    }
}
