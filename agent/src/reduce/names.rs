//! Names, each kept once and known by a number; bounded.

use std::sync::Arc;

use coral_model::id::resource_id;
use coral_model::num::{u32_sat, u64_sat};
use coral_proto::otlp::value::Attributes;
use hashbrown::HashMap;

use super::{Limits, OTHER};
use crate::counters::Counters;

/// A resource: who sends.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Content hash of the attributes.
    pub id: u64,
    /// Its attributes, as text, in the order sent.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

impl Resource {
    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(k, _)| **k == *key).map(|(_, v)| &**v)
    }

    /// From a `Resource` message that was checked before.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut attributes = Vec::new();
        for (key, value) in Attributes::new(bytes, 1).flatten() {
            if let Ok(text) = value.to_text() {
                attributes.push((Box::from(key), Box::from(text)));
            }
        }
        let id = resource_id(attributes.iter().map(|(k, v): &(Box<str>, Box<str>)| (&**k, &**v))).0;
        Self { id, attributes }
    }
}

/// Numbers of a resource and of its service.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResourceIndex {
    pub(super) resource: u32,
    pub(super) service: u32,
}

/// Bytes of all names together.
const WORD_BYTES: usize = 8 << 20;

struct Entry {
    bytes: Box<[u8]>,
    index: ResourceIndex,
    told_ns: u64,
}

/// A resource that keeps reporting is told about again this often.
const TELL_NS: u64 = 15 * 1_000_000_000;

/// All tables of names.
pub(super) struct Names {
    limits: Limits,
    words: Vec<Arc<str>>,
    word_bytes: usize,
    word_index: HashMap<Arc<str>, u32>,
    /// Words that count against the bound: all but operations, which have their own.
    free_words: usize,
    resources: Vec<Arc<Resource>>,
    by_hash: HashMap<u64, Entry>,
    services: HashMap<Box<str>, u32>,
    /// Per service: the numbers of its operations' words.
    operations: Vec<HashMap<Arc<str>, u32>>,
}

impl Names {
    pub(super) fn new(limits: Limits) -> Self {
        let mut names = Self {
            limits,
            words: Vec::new(),
            word_bytes: 0,
            word_index: HashMap::new(),
            free_words: 0,
            resources: Vec::new(),
            by_hash: HashMap::new(),
            services: HashMap::new(),
            operations: Vec::new(),
        };
        // Number 0 is "", as in the message; number 1 is the fold.
        names.intern("");
        names.intern(OTHER);
        names
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(&at) = self.word_index.get(text) {
            return at;
        }
        let at = u32_sat(self.words.len());
        let word: Arc<str> = text.into();
        self.word_bytes += text.len();
        self.words.push(word.clone());
        self.word_index.insert(word, at);
        at
    }

    /// The number of a word, and whether it was folded.
    pub(super) fn word(&mut self, text: &str) -> (u32, bool) {
        if text.is_empty() {
            return (0, false);
        }
        if let Some(&at) = self.word_index.get(text) {
            return (at, false);
        }
        if self.free_words >= self.limits.words {
            return (1, true);
        }
        self.free_words += 1;
        (self.intern(text), false)
    }

    /// The number of an operation's word, and whether it was folded.
    pub(super) fn operation(&mut self, service: u32, text: &str) -> (u32, bool) {
        let Some(known) = self.operations.get(service as usize) else { return (1, true) };
        if let Some(&at) = known.get(text) {
            return (at, false);
        }
        if known.len() >= self.limits.operations {
            return (1, true);
        }
        let at = self.intern(text);
        if let Some(word) = self.words.get(at as usize).cloned()
            && let Some(known) = self.operations.get_mut(service as usize)
        {
            known.insert(word, at);
        }
        (at, false)
    }

    /// The number of a resource by its bytes, and whether others should be told about it: it is new,
    /// or was not spoken of for a while.
    pub(super) fn resource(
        &mut self,
        hash: u64,
        bytes: &[u8],
        now_ns: u64,
        counters: &Counters,
    ) -> (ResourceIndex, bool) {
        if let Some(entry) = self.by_hash.get_mut(&hash)
            && *entry.bytes == *bytes
        {
            let tell = now_ns.saturating_sub(entry.told_ns) > TELL_NS;
            if tell {
                entry.told_ns = now_ns;
            }
            return (entry.index, tell);
        }
        let resource = Resource::parse(bytes);
        let service = resource.get("service.name").unwrap_or("unknown_service");
        let service = match self.services.get(service) {
            Some(&at) => at,
            None => {
                let at = u32_sat(self.operations.len());
                self.services.insert(service.into(), at);
                self.operations.push(HashMap::new());
                at
            }
        };
        let index = ResourceIndex { resource: u32_sat(self.resources.len()), service };
        self.resources.push(Arc::new(resource));
        if self.by_hash.len() < self.limits.resources {
            self.by_hash.insert(hash, Entry { bytes: bytes.into(), index, told_ns: now_ns });
        } else {
            counters.evicted_resources.add(1);
        }
        (index, true)
    }

    pub(super) fn resource_at(&self, at: u32) -> Option<&Arc<Resource>> {
        self.resources.get(at as usize)
    }

    pub(super) fn resource_count(&self) -> u64 {
        u64_sat(self.resources.len())
    }

    /// Whether the tables should be begun anew soon, to keep memory bounded.
    pub(super) fn is_crowded(&self) -> bool {
        self.resources.len() > self.limits.resources || self.word_bytes > WORD_BYTES
    }

    pub(super) fn resources(&self) -> Vec<Arc<Resource>> {
        self.resources.clone()
    }

    pub(super) fn words(&self) -> Vec<Arc<str>> {
        self.words.clone()
    }
}
