//! Profiles as pprof writes them: bytes in, functions and what they took out.
//!
//! The file is the official `profile.proto`, compiled as it is. Everything in it that points somewhere
//! is checked here: a profile that is returned has names for all its frames. Values of one kind are
//! added up, by function ([`Profile::top`]) and by stack ([`Profile::tree`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;

use prost::Message as _;

/// The messages of `profile.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/perftools.profiles.rs"));
}

/// Largest profile when unpacked, in bytes.
const LIMIT: u64 = 256 << 20;
/// Frames of a stack that are looked at; deeper ones were cut by every profiler there is.
const DEEPEST: usize = 4096;

/// Why bytes are no profile.
#[derive(Debug, thiserror::Error)]
pub enum PprofError {
    /// gzip that breaks.
    #[error("its gzip breaks: {0}")]
    Gzip(std::io::Error),
    /// Too large.
    #[error("it unpacks to more than {LIMIT} bytes")]
    TooLarge,
    /// Not the message.
    #[error("it is not a pprof profile: {0}")]
    Message(#[from] prost::DecodeError),
    /// Something in it points nowhere.
    #[error("it is damaged: {what} {id} of sample {sample} is not in it")]
    Dangling {
        /// A location, function or text.
        what: &'static str,
        /// Which.
        id: u64,
        /// Of which sample, from 0.
        sample: usize,
    },
    /// No sample has a value.
    #[error("it holds no samples: expected at least one sample type and one sample")]
    Nothing,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// `cpu`, `samples`, `inuse_space` …
    pub name: String,
    /// `nanoseconds`, `count`, `bytes` …
    pub unit: String,
}

/// A stack and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stack {
    /// Indices into the names, the outermost first.
    frames: Vec<usize>,
    values: Vec<i64>,
}

/// A profile whose every frame has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What was measured; every stack has a value for each.
    pub measures: Vec<Measure>,
    /// Which of them is shown when nobody says.
    pub default: usize,
    /// When it was taken, Unix ns.
    pub time_ns: Option<u64>,
    /// Over how long, ns.
    pub duration_ns: Option<u64>,
    names: Vec<String>,
    stacks: Vec<Stack>,
}

/// What a function took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopRow {
    /// Its name.
    pub name: String,
    /// By itself.
    pub flat: i64,
    /// With everything it called.
    pub cumulative: i64,
}

/// A function as it was called from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRow {
    /// How deep, the outermost 0.
    pub depth: usize,
    /// Its name.
    pub name: String,
    /// What it took with everything it called, here.
    pub cumulative: i64,
    /// By itself.
    pub flat: i64,
}

impl Profile {
    /// Whether bytes look like a profile: gzip, or a message whose first field can be the first of
    /// a profile. Text is none.
    #[must_use]
    pub fn looks_like(head: &[u8]) -> bool {
        // sample_type is field 1, and profilers write fields in order: tag 0x0a, a short length, and
        // a ValueType, of which type is field 1 or unit field 2.
        matches!(head, [0x0a, 1..=0x14, 0x08 | 0x10, ..])
    }

    /// Reads a profile, gzip or plain.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub fn read(bytes: &[u8]) -> Result<Self, PprofError> {
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Self::of(&wire::Profile::decode(bytes)?);
        }
        let mut plain = Vec::new();
        let gzip = flate2::read::MultiGzDecoder::new(bytes);
        gzip.take(LIMIT + 1).read_to_end(&mut plain).map_err(PprofError::Gzip)?;
        if u64::try_from(plain.len()).is_ok_and(|n| n > LIMIT) {
            return Err(PprofError::TooLarge);
        }
        Self::of(&wire::Profile::decode(plain.as_slice())?)
    }

    fn of(wire: &wire::Profile) -> Result<Self, PprofError> {
        let text = |at: i64, sample: usize| {
            let found = usize::try_from(at).ok().and_then(|at| wire.string_table.get(at));
            let id = at.unsigned_abs();
            found.ok_or(PprofError::Dangling { what: "text", id, sample })
        };
        let mut measures = Vec::new();
        for kind in &wire.sample_type {
            let (name, unit) = (text(kind.r#type, 0)?.clone(), text(kind.unit, 0)?.clone());
            measures.push(Measure { name, unit });
        }
        if measures.is_empty() || wire.sample.is_empty() {
            return Err(PprofError::Nothing);
        }
        let named = text(wire.default_sample_type, 0)?;
        let default = measures.iter().position(|m| !named.is_empty() && m.name == *named);
        let locations: HashMap<u64, &wire::Location> =
            wire.location.iter().map(|l| (l.id, l)).collect();
        let functions: HashMap<u64, &wire::Function> =
            wire.function.iter().map(|f| (f.id, f)).collect();
        let mut names = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        let mut stacks = Vec::new();
        for (sample, found) in wire.sample.iter().enumerate() {
            let mut frames = Vec::new();
            for id in found.location_id.iter().take(DEEPEST) {
                let missing = PprofError::Dangling { what: "location", id: *id, sample };
                let location = locations.get(id).ok_or(missing)?;
                let mut of_location = Vec::new();
                for line in &location.line {
                    let id = line.function_id;
                    let missing = PprofError::Dangling { what: "function", id, sample };
                    let function = functions.get(&id).ok_or(missing)?;
                    of_location.push(text(function.name, sample)?.clone());
                }
                if of_location.is_empty() {
                    of_location.push(format!("0x{:x}", location.address));
                }
                for name in of_location {
                    let next = names.len();
                    let at = *by_name.entry(name.clone()).or_insert(next);
                    if at == next {
                        names.push(name);
                    }
                    frames.push(at);
                }
            }
            frames.reverse();
            let mut values = found.value.clone();
            values.resize(measures.len(), 0);
            stacks.push(Stack { frames, values });
        }
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        Ok(Self {
            // pprof's own rule: the last, which is the one measured rather than counted.
            default: default.unwrap_or(measures.len() - 1),
            measures,
            time_ns: positive(wire.time_nanos),
            duration_ns: positive(wire.duration_nanos),
            names,
            stacks,
        })
    }

    /// The sum of a measure.
    #[must_use]
    pub fn total(&self, measure: usize) -> i64 {
        self.values(measure).fold(0, |sum, (_, value)| sum.saturating_add(value))
    }

    fn values(&self, measure: usize) -> impl Iterator<Item = (&[usize], i64)> {
        self.stacks
            .iter()
            .map(move |s| (s.frames.as_slice(), s.values.get(measure).copied().unwrap_or_default()))
    }

    fn name(&self, at: usize) -> String {
        self.names.get(at).cloned().unwrap_or_default()
    }

    /// Functions, those that took most by themselves first.
    #[must_use]
    pub fn top(&self, measure: usize) -> Vec<TopRow> {
        let mut all: HashMap<usize, (i64, i64)> = HashMap::new();
        for (frames, value) in self.values(measure) {
            if let Some(leaf) = frames.last() {
                let flat = &mut all.entry(*leaf).or_default().0;
                *flat = flat.saturating_add(value);
            }
            // A function that calls itself took the time once.
            let once: HashSet<usize> = frames.iter().copied().collect();
            for frame in once {
                let cumulative = &mut all.entry(frame).or_default().1;
                *cumulative = cumulative.saturating_add(value);
            }
        }
        let mut rows: Vec<TopRow> = all
            .into_iter()
            .map(|(at, (flat, cumulative))| TopRow { name: self.name(at), flat, cumulative })
            .collect();
        rows.sort_by(|a, b| (b.flat, b.cumulative, &a.name).cmp(&(a.flat, a.cumulative, &b.name)));
        rows
    }

    /// Stacks as a tree, what took most first; branches below `least` are left out.
    #[must_use]
    pub fn tree(&self, measure: usize, least: i64) -> Vec<TreeRow> {
        let mut nodes: Vec<Node> = vec![Node::default()];
        for (frames, value) in self.values(measure) {
            let mut at = 0;
            for frame in frames {
                let next = nodes.len();
                let Some(node) = nodes.get_mut(at) else { break };
                at = *node.children.entry(*frame).or_insert(next);
                if at == next {
                    nodes.push(Node::default());
                }
                if let Some(node) = nodes.get_mut(at) {
                    node.cumulative = node.cumulative.saturating_add(value);
                }
            }
            if let Some(node) = nodes.get_mut(at) {
                node.flat = node.flat.saturating_add(value);
            }
        }
        let mut rows = Vec::new();
        let mut open: Vec<(usize, usize, usize)> = Vec::new();
        let children = |of: usize, depth: usize| {
            let mut below: Vec<(usize, usize, usize)> = nodes
                .get(of)
                .map(|n| n.children.iter().map(|(frame, at)| (*at, *frame, depth)).collect())
                .unwrap_or_default();
            below.sort_by_key(|(at, frame, _)| (nodes.get(*at).map(|n| n.cumulative), *frame));
            below
        };
        open.extend(children(0, 0));
        while let Some((at, frame, depth)) = open.pop() {
            let Some(node) = nodes.get(at) else { continue };
            if node.cumulative < least {
                continue;
            }
            let (cumulative, flat) = (node.cumulative, node.flat);
            rows.push(TreeRow { depth, name: self.name(frame), cumulative, flat });
            open.extend(children(at, depth + 1));
        }
        rows
    }
}

#[derive(Default)]
struct Node {
    children: BTreeMap<usize, usize>,
    cumulative: i64,
    flat: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> wire::Profile {
        let texts = ["", "samples", "count", "cpu", "nanoseconds", "main", "work", "inner"];
        let line = |function_id| wire::Line { function_id, ..Default::default() };
        let location =
            |id, line: Vec<wire::Line>| wire::Location { id, line, ..Default::default() };
        let sample = |location_id: &[u64], value: &[i64]| wire::Sample {
            location_id: location_id.to_vec(),
            value: value.to_vec(),
            label: Vec::new(),
        };
        wire::Profile {
            sample_type: vec![
                wire::ValueType { r#type: 1, unit: 2 },
                wire::ValueType { r#type: 3, unit: 4 },
            ],
            sample: vec![
                sample(&[2, 1], &[3, 30]),
                sample(&[3, 1], &[1, 10]),
                sample(&[1, 1], &[2, 20]),
                sample(&[4], &[1, 5]),
            ],
            // Location 3 is `inner`, inlined into `work`.
            location: vec![
                location(1, vec![line(1)]),
                location(2, vec![line(2)]),
                location(3, vec![line(3), line(2)]),
                wire::Location { id: 4, address: 0x1f, ..Default::default() },
            ],
            function: (1..=3)
                .map(|id| wire::Function { id, name: 4 + id as i64, ..Default::default() })
                .collect(),
            string_table: texts.iter().map(|t| (*t).to_owned()).collect(),
            duration_nanos: 7,
            ..Default::default()
        }
    }

    #[test]
    fn functions_and_stacks_are_added_up() {
        let bytes = profile().encode_to_vec();
        assert!(Profile::looks_like(&bytes));
        let profile = Profile::read(&bytes).unwrap();
        assert_eq!((profile.default, profile.measures[1].unit.as_str()), (1, "nanoseconds"));
        assert_eq!((profile.total(1), profile.duration_ns), (65, Some(7)));
        let top: Vec<_> =
            profile.top(1).into_iter().map(|r| (r.name, r.flat, r.cumulative)).collect();
        let row = |name: &str, flat, cumulative| (name.to_owned(), flat, cumulative);
        let wanted =
            [row("work", 30, 40), row("main", 20, 60), row("inner", 10, 10), row("0x1f", 5, 5)];
        assert_eq!(top, wanted);
        let tree: Vec<_> =
            profile.tree(1, 0).into_iter().map(|r| (r.depth, r.name, r.cumulative)).collect();
        let row = |depth, name: &str, cumulative| (depth, name.to_owned(), cumulative);
        let wanted = [
            row(0, "main", 60),
            row(1, "work", 40),
            row(2, "inner", 10),
            row(1, "main", 20),
            row(0, "0x1f", 5),
        ];
        assert_eq!(tree, wanted);
        assert_eq!(profile.tree(1, 20).len(), 3);
    }

    #[test]
    fn damage_is_named() {
        let read = |change: &dyn Fn(&mut wire::Profile)| {
            let mut damaged = profile();
            change(&mut damaged);
            Profile::read(&damaged.encode_to_vec()).unwrap_err().to_string()
        };
        assert!(read(&|p| p.location.clear()).contains("location 2 of sample 0"));
        assert!(read(&|p| p.function.clear()).contains("function"));
        assert!(read(&|p| p.string_table.truncate(5)).contains("text 6"));
        assert!(read(&|p| p.sample.clear()).contains("no samples"));
        assert!(Profile::read(b"hello").is_err());
        assert!(matches!(Profile::read(&[0x1f, 0x8b, 8, 0]), Err(PprofError::Gzip(_))));
    }
}
