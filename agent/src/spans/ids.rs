//! Ids that the agents at both ends of a request make alike, without knowing of each other.
//!
//! Both know its key: a hash of the connection's ends and of how many requests came before. Ports are used
//! again, so that the minute in which it began is mixed in; loopback addresses and
//! those of bridges are every host's, so that of those the host's name is. An end that may have counted fewer
//! requests than the other has no key, and joins nothing. A request whose ends put its beginning into two minutes, or which
//! had another with the same ends in the same minute, is joined wrongly; of a thousandth of a
//! second on the way the first happens to one in sixty thousand.

use coral_model::time::SECOND;
use coral_model::view::SpanKind;
use xxhash_rust::xxh3::xxh3_64;

use super::Traced;

/// Ends that begin in one of these are those of one request, ns.
const SPELL: u64 = 60 * SECOND;

/// The ids of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    /// The trace: the request's own, or one that is made.
    pub(super) trace: [u8; 16],
    /// The span.
    pub(super) span: [u8; 8],
    /// What the request says that it belongs below.
    pub(super) parent: Option<[u8; 8]>,
    /// Of who serves the span of who asks, if one was made: only the colony, which has both, can tell.
    pub(super) caller: Option<[u8; 8]>,
}

impl Ids {
    /// Those of a request as this end saw it; `host` is a hash of the host's name.
    pub(super) fn of(request: &Traced<'_>, host: u64) -> Self {
        let seed = seed(request, host);
        let client = number(&seed, "client");
        let (span, caller) = match request.seen.kind {
            SpanKind::Client => (client, None),
            // Where it is not known who asked, nobody's span is called so.
            _ => (number(&seed, "server"), (request.seen.key != 0).then_some(client)),
        };
        let parent = request.parent;
        let trace = if parent.is_there() { parent.trace } else { trace(&seed) };
        let named = parent.is_there() && parent.span != [0; 8];
        Self { trace, span, parent: named.then_some(parent.span), caller }
    }
}

/// What everything is made of.
fn seed(request: &Traced<'_>, host: u64) -> String {
    let seen = &request.seen;
    let minute = seen.start_ns / SPELL;
    match (seen.key, request.is_local) {
        // It is not known who asked: nobody else's span is joined with it.
        (0, _) => format!("{host} {} {} {}", seen.resource.1, seen.start_ns, seen.operation),
        (key, true) => format!("{host} {key} {minute}"),
        (key, false) => format!("{key} {minute}"),
    }
}

/// Never zero, which is no id.
fn number(seed: &str, what: &str) -> [u8; 8] {
    xxh3_64(format!("coral {what} {seed}").as_bytes()).max(1).to_be_bytes()
}

fn trace(seed: &str) -> [u8; 16] {
    let mut id = [0; 16];
    let halves = [number(seed, "trace"), number(seed, "trace, its other half")];
    for (slot, byte) in id.iter_mut().zip(halves.iter().flatten()) {
        *slot = *byte;
    }
    id
}
