//! Where the shop's payments spend their time, as a profiler would have written it.

use coral_proto::pprof::Profile;

use super::Scenario;
use super::shop::HOSTILE;

/// Stacks, the outermost first, and the milliseconds on the processor each took.
const STACKS: [(&[&str], u64); 9] = [
    (&["main", "serve", "POST /charge", "pool::acquire", "futex_wait"], 2_310),
    (&["main", "serve", "POST /charge", "pool::acquire", "backoff"], 190),
    (&["main", "serve", "POST /charge", "INSERT payments", "sendto"], 210),
    (&["main", "serve", "POST /charge", "serde_json::to_vec"], 120),
    (&["main", "serve", "POST /refund", "SELECT payments", "recvfrom"], 140),
    (&["main", "serve", "accept"], 60),
    (&["main", "gc::sweep"], 330),
    (&["main", "gc::mark", "gc::mark", "gc::mark"], 480),
    (&["runtime/internal/worker.run", "steal"], 75),
];

/// Protocol buffers, as far as this file needs them: numbers and what has a length.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
            n >>= 7;
        }
        self.0.push(u8::try_from(n).unwrap_or(0));
    }

    fn number(mut self, field: u64, n: u64) -> Self {
        self.varint(field << 3);
        self.varint(n);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(coral_model::num::u64_sat(bytes.len()));
        self.0.extend_from_slice(bytes);
        self
    }
}

/// The profile.
#[must_use]
pub fn profile(scenario: Scenario) -> Profile {
    let mut texts: Vec<String> =
        ["", "samples", "count", "cpu", "nanoseconds"].map(str::to_owned).into();
    let mut of = |text: &str| {
        let at = texts.iter().position(|known| known == text).unwrap_or_else(|| {
            texts.push(text.to_owned());
            texts.len() - 1
        });
        coral_model::num::u64_sat(at)
    };
    let mut file = Message::default();
    for (kind, unit) in [(1, 2), (3, 4)] {
        file = file.bytes(1, &Message::default().number(1, kind).number(2, unit).0);
    }
    let mut seen: Vec<u64> = Vec::new();
    for (frames, ms) in STACKS {
        let mut sample = Message::default();
        for frame in frames.iter().rev() {
            let id = match scenario {
                Scenario::Hostile => of(&format!("{frame} {HOSTILE}")),
                _ => of(frame),
            };
            sample = sample.number(1, id);
            if !seen.contains(&id) {
                seen.push(id);
                let line = Message::default().number(1, id).0;
                file = file.bytes(4, &Message::default().number(1, id).bytes(4, &line).0);
                file = file.bytes(5, &Message::default().number(1, id).number(2, id).0);
            }
        }
        let sample = sample.number(2, ms / 10).number(2, ms * 1_000_000);
        file = file.bytes(2, &sample.0);
    }
    for text in &texts {
        file = file.bytes(6, text.as_bytes());
    }
    let file = file.number(10, 30_000_000_000);
    Profile::read(&file.0).unwrap_or_else(|error| unreachable!("{error}"))
}
