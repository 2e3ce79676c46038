//! What was learnt, as a `coral.v1.Reduced`: every name and resource it mentions lies inside it.

use std::collections::HashMap;
use std::sync::Arc;

use coral_model::num::u32_sat;
use coral_proto::v1;

use super::names::Resource;
use super::{CodeWord, Taken};

/// Collects strings and resources a message mentions.
#[derive(Default)]
struct Tables<'t> {
    strings: Vec<String>,
    by_text: HashMap<&'t str, u32>,
    resources: Vec<v1::Resource>,
    by_id: HashMap<u64, u32>,
}

impl<'t> Tables<'t> {
    fn string(&mut self, text: &'t str) -> u32 {
        let strings = &mut self.strings;
        *self.by_text.entry(text).or_insert_with(|| {
            strings.push(text.to_owned());
            u32_sat(strings.len() - 1)
        })
    }

    fn resource(&mut self, resource: &'t Resource) -> u32 {
        if let Some(&at) = self.by_id.get(&resource.id) {
            return at;
        }
        let keys = resource.attributes.iter().map(|(k, _)| self.string(k)).collect();
        let values = resource.attributes.iter().map(|(_, v)| self.string(v)).collect();
        self.resources.push(v1::Resource { id: resource.id, keys, values });
        let at = u32_sat(self.resources.len() - 1);
        self.by_id.insert(resource.id, at);
        at
    }
}

/// Writes it down. `covers` is the last OTLP record it includes.
#[must_use]
pub fn reduced(taken: Taken, covers: u64) -> v1::Reduced {
    let Taken { at_ns, rows, series, halves, half_series, inflight, .. } = taken;
    let Taken { connections, resources, words, .. } = taken;
    // Codes as text, made once.
    let codes: Vec<String> = series
        .iter()
        .map(|key| match key.code {
            CodeWord::Number(n) => n.to_string(),
            CodeWord::Unknown | CodeWord::Word(_) => String::new(),
        })
        .collect();
    let nobody = Arc::new(Resource { id: 0, attributes: Vec::new() });
    let word = |at: u32| words.get(at as usize).map_or("", |w| &**w);
    let who = |at: u32| resources.get(at as usize).unwrap_or(&nobody);
    let mut tables = Tables::default();
    tables.string("");
    let mut red = Vec::with_capacity(rows.len());
    for ((row, key), code) in rows.iter().zip(&series).zip(&codes) {
        red.push(v1::RedDelta {
            bucket: row.bucket,
            resource: tables.resource(who(key.resource)),
            operation: tables.string(word(key.operation)),
            kind: u32::from(key.kind.to_otlp()),
            status: match key.code {
                CodeWord::Word(at) => tables.string(word(at)),
                _ => tables.string(code),
            },
            errors: row.errors,
            no_answer: row.no_answer,
            sum_ns: row.sum_ns,
            hist_index: row.hist.iter().map(|&(i, _)| u32::from(i)).collect(),
            hist_count: row.hist.iter().map(|&(_, n)| n).collect(),
            slowest_trace: row.slowest.1.to_vec(),
            slowest_ns: row.slowest.0,
            error_trace: row.error_trace.map(|(_, trace)| trace.to_vec()).unwrap_or_default(),
            sampled: key.sampled,
            protocol: tables.string(word(key.protocol)),
            evidence: key.evidence.into(),
        });
    }
    let series = half_series
        .iter()
        .map(|key| v1::HalfSeries {
            resource: tables.resource(who(key.resource)),
            kind: u32::from(key.kind.to_otlp()),
            protocol: tables.string(word(key.protocol)),
            peer: tables.string(word(key.peer)),
            peer_kind: u32::try_from(i32::from(key.peer_kind)).unwrap_or(0),
            sampled: key.sampled,
            evidence: key.evidence.into(),
        })
        .collect();
    let half_edges = (!halves.key.is_empty()).then_some(v1::HalfEdges {
        series,
        key: halves.key,
        series_index: halves.series,
        end_ns: halves.end_ns,
        duration_ns: halves.duration_ns,
        flags: halves.flags,
    });
    let inflight = inflight
        .iter()
        .map(|snapshot| v1::Inflight {
            resource: tables.resource(&snapshot.resource),
            operation: 0,
            count: snapshot.count,
            oldest_start_ns: snapshot.oldest_start_ns,
            oldest_trace: if snapshot.count > 0 {
                snapshot.oldest_trace.to_vec()
            } else {
                Vec::new()
            },
            exact: snapshot.exact,
        })
        .collect();
    let connections = connections
        .iter()
        .map(|(key, tally)| v1::ConnectionDelta {
            bucket: key.bucket,
            resource: tables.resource(who(key.resource)),
            protocol: tables.string(word(key.protocol)),
            peer: tables.string(word(key.peer)),
            peer_kind: u32::try_from(i32::from(key.peer_kind)).unwrap_or(0),
            opened: tally.opened,
            failed: tally.failed,
            refused: tally.refused,
            reset: tally.reset,
            retransmits: tally.retransmits,
            sent_bytes: tally.sent_bytes,
            received_bytes: tally.received_bytes,
            rtt_sum_ns: tally.rtt_sum_ns,
            rtt_count: tally.rtt_count,
            open_ns: tally.open_ns,
            busy_ns: tally.busy_ns,
        })
        .collect();
    let Tables { strings, resources, .. } = tables;
    let covers_seq = covers;
    v1::Reduced { at_ns, covers_seq, strings, resources, red, half_edges, inflight, connections }
}
