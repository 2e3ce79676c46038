//! The text formats, line by line.
//!
//! Text format 0.0.4 ("Exposition formats", prometheus.io/docs/instrumenting/exposition_formats) and
//! OpenMetrics 1.0 (prometheus.io/docs/specs/om/open_metrics_spec), with names in quotes inside the
//! braces as Prometheus 3 writes them. A line that is neither sample nor comment fails the whole
//! answer, as it does for Prometheus: half an answer would look like series that ended.

use std::borrow::Cow;

/// Which of the two formats an answer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Text format 0.0.4. Times are milliseconds.
    Classic,
    /// OpenMetrics. Times are seconds, and the answer ends with `# EOF`.
    OpenMetrics,
}

impl Dialect {
    /// From a `content-type` header.
    #[must_use]
    pub fn of(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }
}

/// What a metric is, as its `# TYPE` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Any number.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Buckets of a present state.
    GaugeHistogram,
    /// Quantiles made by the application.
    Summary,
    /// Labels with the value 1.
    Info,
    /// One of several states.
    StateSet,
    /// Nothing was said.
    Unknown,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "untyped" | "unknown" => Self::Unknown,
            _ => return None,
        })
    }
}

/// Labels of a sample, as written.
pub type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// Its name, suffix included.
    pub name: Cow<'a, str>,
    /// Its labels.
    pub labels: Labels<'a>,
    /// Its value.
    pub value: f64,
    /// Its time in Unix ns, where it has one.
    pub time_ns: Option<u64>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// `# TYPE name kind`
    Type(Cow<'a, str>, Kind),
    /// `# HELP name text`
    Help(Cow<'a, str>, Cow<'a, str>),
    /// `# UNIT name unit`
    Unit(Cow<'a, str>, &'a str),
    /// A sample. Its exemplar is checked to be there and left.
    Sample(Sample<'a>),
}

/// Why an answer is not in its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A line is wrong.
    #[error("line {line}, column {column}: expected {expected}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// Byte within it, from 1.
        column: usize,
        /// What should have stood there.
        expected: &'static str,
    },
    /// Not text.
    #[error("line {line} is not UTF-8")]
    NotText {
        /// Its number, from 1.
        line: usize,
    },
    /// OpenMetrics without its end.
    #[error("the answer was cut: OpenMetrics ends with # EOF, and this does not")]
    Cut,
}

/// Hands every line that says something to `see`, in order.
///
/// # Errors
/// At the first line that is wrong, and for an OpenMetrics answer without an end.
pub fn parse<'a>(
    body: &'a [u8],
    dialect: Dialect,
    mut see: impl FnMut(Line<'a>),
) -> Result<(), TextError> {
    for (n, bytes) in body.split(|&b| b == b'\n').enumerate() {
        let line = n + 1;
        let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotText { line })?;
        let text = text.strip_suffix('\r').unwrap_or(text);
        if dialect == Dialect::OpenMetrics && text == "# EOF" {
            return Ok(());
        }
        let mut cursor = Cursor { whole: text, rest: text };
        let found = if text.trim_ascii_start().starts_with('#') {
            cursor.comment()
        } else if text.trim_ascii().is_empty() {
            Ok(None)
        } else {
            cursor.sample(dialect).map(|sample| Some(Line::Sample(sample)))
        };
        match found {
            Ok(Some(found)) => see(found),
            Ok(None) => {}
            Err(expected) => {
                let column = text.len() - cursor.rest.len() + 1;
                return Err(TextError::Line { line, column, expected });
            }
        }
    }
    match dialect {
        Dialect::Classic => Ok(()),
        Dialect::OpenMetrics => Err(TextError::Cut),
    }
}

struct Cursor<'a> {
    whole: &'a str,
    rest: &'a str,
}

type Expected<T> = Result<T, &'static str>;

impl<'a> Cursor<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, c: char) -> bool {
        self.rest.strip_prefix(c).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    /// Up to a blank or one of these.
    fn until(&mut self, ends: &[char]) -> &'a str {
        let end = self.rest.find(|c| c == ' ' || c == '\t' || ends.contains(&c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// A name, bare or in quotes.
    fn name(&mut self, ends: &[char], what: &'static str) -> Expected<Cow<'a, str>> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let before = self.rest;
        let word = self.until(ends);
        let first = word.chars().next().is_some_and(|c| !c.is_ascii_digit());
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.';
        if !first || !word.chars().all(known) {
            self.rest = before;
            return Err(what);
        }
        Ok(Cow::Borrowed(word))
    }

    /// `"…"` with `\\`, `\"` and `\n`.
    fn quoted(&mut self) -> Expected<Cow<'a, str>> {
        if !self.eat('"') {
            return Err("a value in double quotes");
        }
        let body = self.rest;
        let Some(end) = body.find(['"', '\\']) else { return Err("a closing quote") };
        if let Some((plain, rest)) = body.split_at_checked(end)
            && let Some(rest) = rest.strip_prefix('"')
        {
            self.rest = rest;
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = String::new();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = body.get(at + 1..).unwrap_or_default();
                    return Ok(Cow::Owned(out));
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => out.push(c),
                    // Unknown escapes stand for themselves, as for Prometheus.
                    Some((_, c)) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err("a closing quote")
    }

    fn comment(&mut self) -> Expected<Option<Line<'a>>> {
        self.blanks();
        self.eat('#');
        self.blanks();
        let word = self.until(&[]);
        self.blanks();
        match word {
            "TYPE" => {
                let name = self.name(&[], "a metric's name")?;
                self.blanks();
                let before = self.rest;
                let kind = Kind::parse(self.rest.trim_ascii_end()).ok_or(
                    "counter, gauge, histogram, gaugehistogram, summary, info, stateset or untyped",
                );
                self.rest = before;
                Ok(Some(Line::Type(name, kind?)))
            }
            "HELP" => {
                let name = self.name(&[], "a metric's name")?;
                self.rest = self.rest.strip_prefix([' ', '\t']).unwrap_or(self.rest);
                Ok(Some(Line::Help(name, unescaped(self.rest))))
            }
            "UNIT" => {
                let name = self.name(&[], "a metric's name")?;
                self.blanks();
                Ok(Some(Line::Unit(name, self.rest.trim_ascii_end())))
            }
            // Any other comment.
            _ => Ok(None),
        }
    }

    fn sample(&mut self, dialect: Dialect) -> Expected<Sample<'a>> {
        self.blanks();
        let mut name = None;
        if !self.rest.starts_with('{') {
            name = Some(self.name(&['{'], "a metric's name")?);
            self.blanks();
        }
        let mut labels = Vec::new();
        if self.eat('{') {
            self.labels(&mut name, &mut labels)?;
        }
        let name = name.ok_or("a metric's name")?;
        self.blanks();
        let value = self.number("a number after the labels")?;
        self.blanks();
        let mut time_ns = None;
        if !self.rest.is_empty() && !self.rest.starts_with('#') {
            let before = self.rest;
            let time = self.number("a time, or the end of the line")?;
            time_ns = nanos(time, dialect);
            if time_ns.is_none() {
                self.rest = before;
                return Err("a time after 1970");
            }
            self.blanks();
        }
        let exemplar = dialect == Dialect::OpenMetrics && self.rest.starts_with("# {");
        if !self.rest.is_empty() && !exemplar {
            return Err("the end of the line");
        }
        Ok(Sample { name, labels, value, time_ns })
    }

    fn labels(&mut self, name: &mut Option<Cow<'a, str>>, labels: &mut Labels<'a>) -> Expected<()> {
        loop {
            self.blanks();
            if self.eat('}') {
                return Ok(());
            }
            let key = self.name(&['=', '}', ','], "a label's name or }")?;
            self.blanks();
            if self.eat('=') {
                self.blanks();
                let value = self.quoted()?;
                labels.push((key, value));
            } else if name.is_none() && labels.is_empty() && self.whole.contains('"') {
                // `{"http.requests", code="200"}`
                *name = Some(key);
            } else {
                return Err("= after a label's name");
            }
            self.blanks();
            if !self.eat(',') && !self.rest.starts_with('}') {
                return Err(", or } after a label");
            }
        }
    }

    fn number(&mut self, what: &'static str) -> Expected<f64> {
        let before = self.rest;
        let word = self.until(&[]);
        let digits = |c: char| c.is_ascii_digit();
        let named = ["nan", "inf", "infinity"];
        let plain = word.trim_start_matches(['+', '-']).to_ascii_lowercase();
        let known = plain.starts_with(digits) || plain.starts_with('.') || named.contains(&&*plain);
        match word.parse().ok().filter(|_| known) {
            Some(value) => Ok(value),
            None => {
                self.rest = before;
                Err(what)
            }
        }
    }
}

/// HELP knows `\\` and `\n`; OpenMetrics `\"` as well.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A time of the dialect in Unix ns; `None` before 1970 or when it is no time.
fn nanos(time: f64, dialect: Dialect) -> Option<u64> {
    let ns = match dialect {
        Dialect::Classic => time * 1e6,
        Dialect::OpenMetrics => time * 1e9,
    };
    from_f64(ns)
}

/// Nanoseconds since 1970 from a float; `None` when they are not a time of the next centuries.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be in range just before"
)]
pub fn from_f64(ns: f64) -> Option<u64> {
    (ns.is_finite() && (0.0..9.2e18).contains(&ns)).then_some(ns as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, dialect: Dialect) -> Result<Vec<Line<'_>>, TextError> {
        let mut all = Vec::new();
        parse(text.as_bytes(), dialect, |line| all.push(line)).map(|()| all)
    }

    fn only(text: &str) -> Sample<'_> {
        match lines(text, Dialect::Classic).unwrap().remove(0) {
            Line::Sample(sample) => sample,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let text = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf 0
"#;
        let lines = lines(text, Dialect::Classic).unwrap();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[1], Line::Type("http_requests_total".into(), Kind::Counter));
        let Line::Sample(first) = &lines[2] else { panic!() };
        assert_eq!((first.value, first.time_ns), (1027.0, Some(1_395_066_363_000_000_000)));
        let Line::Sample(dos) = &lines[4] else { panic!() };
        assert_eq!(dos.labels[0].1, r"C:\DIR\FILE.TXT");
        assert_eq!(dos.labels[1].1, "Cannot find file:\n\"FILE.TXT\"");
        let Line::Sample(weird) = &lines[6] else { panic!() };
        assert_eq!((weird.value, weird.time_ns), (f64::INFINITY, Some(0)));
    }

    #[test]
    fn openmetrics_has_units_exemplars_and_an_end() {
        let text = "# TYPE foo_seconds histogram\n# UNIT foo_seconds seconds\n\
            foo_seconds_bucket{le=\"0.1\"} 8 # {trace_id=\"abc\"} 0.043 1.5\n\
            foo_seconds_bucket{le=\"+Inf\"} 9 1.5\n# EOF\nnot read any more";
        let found = lines(text, Dialect::OpenMetrics).unwrap();
        assert_eq!(found[1], Line::Unit("foo_seconds".into(), "seconds"));
        let Line::Sample(last) = &found[3] else { panic!() };
        assert_eq!(last.time_ns, Some(1_500_000_000));
        assert_eq!(lines("a 1\n", Dialect::OpenMetrics), Err(TextError::Cut));
    }

    #[test]
    fn odd_but_valid_lines_are_read() {
        assert_eq!(only("a{} 1").labels, []);
        assert_eq!(only("  a { b = \"c\" , } 1 ").labels, [("b".into(), "c".into())]);
        assert_eq!(only("{\"http.requests\",code=\"200\"} 5").name, "http.requests");
        assert!(only("a NaN").value.is_nan());
        assert_eq!(only("a -Inf").value, f64::NEG_INFINITY);
        assert_eq!(only("a 1e-3").value, 0.001);
        assert_eq!(only("a:b 1\r").name, "a:b");
        assert_eq!(only("a{b=\"\\x\"} 1").labels[0].1, "\\x");
    }

    #[test]
    fn a_wrong_line_is_named_with_its_place() {
        for (text, column) in [
            ("a", 2),
            ("a b", 3),
            ("a{b} 1", 4),
            ("a{b=c} 1", 5),
            ("a{b=\"c} 1", 6),
            ("a{b=\"c\" 1", 9),
            ("1a 1", 1),
            ("a 1 2 3", 7),
            ("a 1 # {x=\"y\"} 1", 5),
            ("# TYPE a nothing", 10),
            ("<html>", 1),
            ("a 0x10", 3),
        ] {
            let error = lines(&format!("ok 1\n{text}"), Dialect::Classic).unwrap_err();
            let TextError::Line { line, column: found, .. } = error else { panic!("{error}") };
            assert_eq!((line, found), (2, column), "{text}: {error}");
        }
        assert_eq!(
            parse(b"a 1\n\xff 1", Dialect::Classic, |_| {}),
            Err(TextError::NotText { line: 2 })
        );
    }
}
