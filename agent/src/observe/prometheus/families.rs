//! Samples of one metric, put together.
//!
//! A histogram is written as many samples (`_bucket`, `_sum`, `_count`); here they become one point
//! per series again. In: [`Line`]s in any order. Out: [`Family`]s in the order they were met.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::text::{self, Dialect, Kind, Line, Sample, TextError, from_f64};
use super::{Limits, Turned};

/// Labels of a series, sorted; empty ones are as good as absent and not here.
pub type Labels = BTreeMap<String, String>;

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name as people look for it: of a counter with `_total`, as its samples are named.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it means.
    pub help: String,
    /// Its unit, in the words of the answer; empty when not said.
    pub unit: String,
    /// Its series, in order of appearance.
    pub points: Vec<(Labels, Point)>,
}

/// What one series says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    /// Value of a counter, gauge, info, state or unknown.
    pub value: Option<f64>,
    /// Cumulative counts by upper bound.
    pub buckets: Vec<(f64, f64)>,
    /// Quantiles of a summary.
    pub quantiles: Vec<(f64, f64)>,
    /// Sum of a histogram or summary.
    pub sum: Option<f64>,
    /// Count of a histogram or summary.
    pub count: Option<f64>,
    /// When it began, Unix ns, as it says itself.
    pub created_ns: Option<u64>,
    /// When it was measured, where it says so.
    pub time_ns: Option<u64>,
}

/// One answer, read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Its metrics.
    pub families: Vec<Family>,
    /// Labels of `target_info`: what the application says of itself.
    pub target: Labels,
    /// Samples read.
    pub samples: u64,
    /// What a bound turned away.
    pub turned: Turned,
}

/// What a suffix says of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Value,
    Bucket,
    Sum,
    Count,
    Created,
}

/// Reads a whole answer.
///
/// # Errors
/// When it is not in its format.
pub fn read(body: &[u8], dialect: Dialect, limits: Limits) -> Result<Answer, TextError> {
    let mut reader = Reader { limits, ..Reader::default() };
    text::parse(body, dialect, |line| reader.see(line))?;
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    answer: Answer,
    limits: Limits,
    /// Families by the name their `# TYPE` or first sample has.
    by_name: HashMap<String, usize>,
    /// Points by family and labels.
    by_labels: HashMap<(usize, Labels), usize>,
    /// What may differ from [`Family::name`]: a counter is typed `x` and sampled `x_total`.
    typed: Vec<String>,
}

impl Reader {
    fn see(&mut self, line: Line<'_>) {
        match line {
            Line::Type(name, kind) => {
                if let Some(family) = self.family(&name) {
                    family.kind = kind;
                }
            }
            Line::Help(name, help) => {
                if let Some(family) = self.family(&name) {
                    family.help = help.into_owned();
                }
            }
            Line::Unit(name, unit) => {
                if let Some(family) = self.family(&name) {
                    unit.clone_into(&mut family.unit);
                }
            }
            Line::Sample(sample) => self.sample(sample),
        }
    }

    fn family(&mut self, name: &str) -> Option<&mut Family> {
        let at = self.family_at(name)?;
        self.answer.families.get_mut(at)
    }

    fn family_at(&mut self, name: &str) -> Option<usize> {
        if let Some(&at) = self.by_name.get(name) {
            return Some(at);
        }
        let at = self.answer.families.len();
        if at >= self.limits.metrics {
            return None;
        }
        self.by_name.insert(name.to_owned(), at);
        self.typed.push(name.to_owned());
        self.answer.families.push(Family {
            name: name.to_owned(),
            kind: Kind::Unknown,
            help: String::new(),
            unit: String::new(),
            points: Vec::new(),
        });
        Some(at)
    }

    fn kind(&self, name: &str) -> Option<(usize, Kind)> {
        let at = *self.by_name.get(name)?;
        self.answer.families.get(at).map(|family| (at, family.kind))
    }

    /// The family a sample belongs to, and which part of its point it is.
    fn route(&self, name: &str) -> Option<(usize, Part)> {
        if let Some((at, kind)) = self.kind(name)
            && !matches!(kind, Kind::Histogram | Kind::GaugeHistogram)
        {
            return Some((at, Part::Value));
        }
        use Kind::{Counter, GaugeHistogram, Histogram, Info, Summary};
        let suffixes: [(&str, Part, &[Kind]); 8] = [
            ("_total", Part::Value, &[Counter]),
            ("_bucket", Part::Bucket, &[Histogram, GaugeHistogram]),
            ("_sum", Part::Sum, &[Histogram, Summary]),
            ("_count", Part::Count, &[Histogram, Summary]),
            ("_gsum", Part::Sum, &[GaugeHistogram]),
            ("_gcount", Part::Count, &[GaugeHistogram]),
            ("_created", Part::Created, &[Counter, Histogram, Summary]),
            ("_info", Part::Value, &[Info]),
        ];
        suffixes.iter().find_map(|(suffix, part, kinds)| {
            let (at, kind) = self.kind(name.strip_suffix(suffix)?)?;
            kinds.contains(&kind).then_some((at, *part))
        })
    }

    fn sample(&mut self, sample: Sample<'_>) {
        let bounded = self.answer.samples >= u64::try_from(self.limits.samples).unwrap_or(u64::MAX)
            || sample.labels.len() > self.limits.labels;
        let route = if bounded { None } else { self.route(&sample.name) };
        let found = match route {
            None if bounded => None,
            None => self.family_at(&sample.name).map(|at| (at, Part::Value)),
            found => found,
        };
        let Some((at, part)) = found else {
            self.answer.turned.samples += 1;
            return;
        };
        self.answer.samples += 1;
        let Some(family) = self.answer.families.get_mut(at) else { return };
        let named = matches!(family.kind, Kind::Counter | Kind::Info) && part == Part::Value;
        if named && family.name != *sample.name {
            family.name = sample.name.clone().into_owned();
        }
        let kind = family.kind;
        let mut labels = Labels::new();
        let mut special = None;
        for (key, value) in sample.labels {
            let is_special = match kind {
                Kind::Histogram | Kind::GaugeHistogram => part == Part::Bucket && key == "le",
                Kind::Summary => part == Part::Value && key == "quantile",
                _ => false,
            };
            if is_special {
                special = value.parse::<f64>().ok();
            } else if !value.is_empty() {
                labels.insert(key.into_owned(), value.into_owned());
            }
        }
        let points = &mut family.points;
        let place = *self.by_labels.entry((at, labels)).or_insert_with_key(|(_, labels)| {
            points.push((labels.clone(), Point::default()));
            points.len() - 1
        });
        let Some((_, point)) = points.get_mut(place) else { return };
        point.time_ns = sample.time_ns.or(point.time_ns);
        let once = |slot: &mut Option<f64>| slot.replace(sample.value).is_some();
        let repeated = match (part, special) {
            (Part::Value, None) if kind == Kind::Summary => once(&mut point.value),
            (Part::Value, None) => once(&mut point.value),
            (Part::Value, Some(quantile)) => {
                point.quantiles.push((quantile, sample.value));
                false
            }
            (Part::Bucket, Some(le)) => {
                point.buckets.push((le, sample.value));
                false
            }
            // A bucket without a bound says nothing.
            (Part::Bucket, None) => true,
            (Part::Sum, _) => once(&mut point.sum),
            (Part::Count, _) => once(&mut point.count),
            (Part::Created, _) => {
                point.created_ns = from_f64(sample.value * 1e9).filter(|&ns| ns > 0);
                false
            }
        };
        self.answer.turned.repeated += u64::from(repeated);
    }

    fn finish(mut self) -> Answer {
        let target = |name: &str| name == "target" || name == "target_info";
        let mut families = std::mem::take(&mut self.answer.families);
        for (family, typed) in families.iter_mut().zip(&self.typed) {
            if target(typed)
                && matches!(family.kind, Kind::Info | Kind::Gauge)
                && let Some((labels, _)) = family.points.pop()
            {
                self.answer.target = labels;
                family.points.clear();
            }
        }
        families.retain(|family| !family.points.is_empty());
        self.answer.families = families;
        self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic(text: &str) -> Answer {
        read(text.as_bytes(), Dialect::Classic, Limits::default()).unwrap()
    }

    #[test]
    fn a_histogram_is_one_point_again() {
        let answer = classic(
            "# TYPE d histogram\nd_bucket{p=\"a\",le=\"0.1\"} 3\nd_bucket{p=\"a\",le=\"+Inf\"} 5\n\
             d_sum{p=\"a\"} 1.5\nd_count{p=\"a\"} 5\nd_bucket{p=\"b\",le=\"+Inf\"} 0\n",
        );
        let [family] = &answer.families[..] else { panic!("{answer:?}") };
        assert_eq!((family.name.as_str(), family.points.len()), ("d", 2));
        let (labels, point) = &family.points[0];
        assert_eq!(labels["p"], "a");
        assert_eq!(point.buckets, [(0.1, 3.0), (f64::INFINITY, 5.0)]);
        assert_eq!((point.sum, point.count), (Some(1.5), Some(5.0)));
    }

    #[test]
    fn both_formats_give_a_counter_the_same_name() {
        let old = classic("# TYPE hits_total counter\nhits_total 5\n");
        let new = read(
            b"# TYPE hits counter\nhits_total 5\nhits_created 1.5\n# EOF\n",
            Dialect::OpenMetrics,
            Limits::default(),
        )
        .unwrap();
        assert_eq!(old.families[0].name, "hits_total");
        assert_eq!(new.families[0].name, "hits_total");
        assert_eq!(new.families[0].points[0].1.created_ns, Some(1_500_000_000));
        assert_eq!(new.families[0].points[0].1.value, Some(5.0));
        // In 0.0.4 a `_created` is a gauge of its own.
        let apart =
            classic("# TYPE a_total counter\na_total 5\n# TYPE a_created gauge\na_created 1\n");
        assert_eq!(apart.families.len(), 2);
    }

    #[test]
    fn summaries_untyped_and_target_info() {
        let answer = classic(
            "# TYPE s summary\ns{quantile=\"0.5\"} 2\ns{quantile=\"0.9\"} NaN\ns_sum 7\ns_count 3\n\
             lonely 4\n# TYPE target_info gauge\ntarget_info{version=\"v1\",x=\"\"} 1\n",
        );
        assert_eq!(answer.families.len(), 2);
        assert_eq!(answer.families[0].points[0].1.quantiles.len(), 2);
        assert_eq!(answer.families[0].points[0].1.count, Some(3.0));
        assert_eq!(answer.families[1].kind, Kind::Unknown);
        assert_eq!(answer.target, Labels::from([("version".into(), "v1".into())]));
    }

    #[test]
    fn bounds_count_what_they_turn_away() {
        let limits = Limits { samples: 3, metrics: 2, labels: 1, ..Limits::default() };
        let text = "a 1\nb{x=\"1\",y=\"2\"} 1\nb 1\nc 1\na{x=\"1\"} 2\na{x=\"2\"} 2\n";
        let answer = read(text.as_bytes(), Dialect::Classic, limits).unwrap();
        assert_eq!((answer.samples, answer.turned.samples), (3, 3));
        assert_eq!(classic("a 1\na 2\n").turned.repeated, 1);
    }
}
