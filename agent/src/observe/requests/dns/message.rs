//! A message of DNS (RFC 1035, 4.1), as far as it tells of a question and its answer. `domain` reads it
//! where it lies: no list is built of what a stranger says there is, a name that runs in circles is an
//! error, and a message whose end is not known is read up to there.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, OptRcode, Rtype};
use domain::base::{Message as Wire, ParsedName};
use domain::rdata::{A, Aaaa, Cname};
use xxhash_rust::xxh3::Xxh3;

use super::name;

/// Bytes before the question.
pub const HEADER: usize = 12;
/// Records of an answer that are looked at.
const RECORDS: usize = 128;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Type and name: `AAAA api.example.com`.
    pub operation: String,
    /// The name alone.
    pub name: String,
    /// The name with nothing taken out, which is not told to anybody.
    pub labels: Vec<Box<[u8]>>,
    /// Of the whole question as it was asked, but for the case of letters.
    pub hash: u64,
    /// Its answer has many messages: a zone is handed over.
    pub is_transfer: bool,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The name of its code.
    pub code: &'static str,
    /// Whether that is an error.
    pub failed: bool,
    /// Addresses that the name has, behind its aliases too, and for how many seconds.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// A question or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What answer and question share.
    pub id: u16,
    /// What was asked; an answer may leave it out.
    pub question: Option<Question>,
    /// `None` of a question.
    pub answer: Option<Answer>,
}

/// The name of a code (RFC 1035, 4.1.1; RFC 6895, 2.3).
fn code(code: OptRcode) -> &'static str {
    match code {
        OptRcode::NOERROR => "NOERROR",
        OptRcode::FORMERR => "FORMERR",
        OptRcode::SERVFAIL => "SERVFAIL",
        OptRcode::NXDOMAIN => "NXDOMAIN",
        OptRcode::NOTIMP => "NOTIMP",
        OptRcode::REFUSED => "REFUSED",
        OptRcode::YXDOMAIN => "YXDOMAIN",
        OptRcode::YXRRSET => "YXRRSET",
        OptRcode::NXRRSET => "NXRRSET",
        OptRcode::NOTAUTH => "NOTAUTH",
        OptRcode::NOTZONE => "NOTZONE",
        OptRcode::BADVERS => "BADVERS",
        OptRcode::BADCOOKIE => "BADCOOKIE",
        _ => "OTHER",
    }
}

impl Message {
    /// From its bytes, the last of which may be missing. `None` of what is no message, or of another kind
    /// than a question and its answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let wire = Wire::from_slice(bytes).ok()?;
        let (header, counts) = (wire.header(), wire.header_counts());
        if header.opcode() != Opcode::QUERY || header.z() || counts.qdcount() > 1 {
            return None;
        }
        let asked = match counts.qdcount() {
            0 => None,
            _ => Some(wire.sole_question().ok()?),
        };
        if asked.as_ref().is_some_and(|asked| !is_class(asked.qclass())) {
            return None;
        }
        let question = asked.as_ref().map(|asked| question(asked.qname(), asked.qtype()));
        let id = header.id();
        if !header.qr() {
            let answered = counts.ancount() > 0 || header.rcode().to_int() != 0;
            return (question.is_some() && !answered).then_some(Self {
                id,
                question,
                answer: None,
            });
        }
        let code = code(wire.opt_rcode());
        let of_name = asked.as_ref().filter(|_| code == "NOERROR");
        let addresses = of_name.map(|asked| addresses(wire, asked.qname())).unwrap_or_default();
        let answer = Some(Answer { code, failed: code != "NOERROR", addresses });
        Some(Self { id, question, answer })
    }
}

/// Of the internet, or about the server itself (`version.bind`).
fn is_class(class: Class) -> bool {
    matches!(class, Class::IN | Class::CH | Class::ANY)
}

fn question(name: &ParsedName<&[u8]>, of: Rtype) -> Question {
    let kind = of.to_mnemonic_str().unwrap_or("OTHER");
    let mut hash = Xxh3::new();
    let labels: Vec<Box<[u8]>> =
        name.iter().map(|label| AsRef::<[u8]>::as_ref(label).to_ascii_lowercase().into()).collect();
    for label in &labels {
        hash.update(&[u8::try_from(label.len()).unwrap_or(u8::MAX)]);
        hash.update(label);
    }
    hash.update(&of.to_int().to_be_bytes());
    let name = name::of(labels.iter().map(AsRef::as_ref));
    let is_transfer = matches!(of, Rtype::AXFR | Rtype::IXFR);
    let (operation, hash) = (format!("{kind} {name}"), hash.digest());
    Question { operation, name, labels, hash, is_transfer }
}

/// Addresses of a name. Aliases stand before what they lead to; what belongs to no name that was asked for
/// is left out.
fn addresses(wire: &Wire<[u8]>, asked: &ParsedName<&[u8]>) -> Vec<(IpAddr, u32)> {
    let Ok(records) = wire.answer() else { return Vec::new() };
    let (mut name, mut found) = (*asked, Vec::new());
    // An alias may live shorter than what it leads to.
    let mut shortest = u32::MAX;
    for record in records.take(RECORDS) {
        let Ok(record) = record else { break };
        if record.class() != Class::IN || record.owner() != name {
            continue;
        }
        let ttl = record.ttl().as_secs();
        let address = match record.rtype() {
            Rtype::CNAME => {
                let Ok(Some(alias)) = record.into_record::<Cname<ParsedName<&[u8]>>>() else {
                    break;
                };
                shortest = shortest.min(ttl);
                name = *alias.data().cname();
                continue;
            }
            Rtype::A => record.into_record::<A>().ok().flatten().map(|a| a.data().addr().into()),
            Rtype::AAAA => {
                record.into_record::<Aaaa>().ok().flatten().map(|a| a.data().addr().into())
            }
            _ => continue,
        };
        found.extend(address.map(|address| (address, ttl.min(shortest))));
    }
    found
}

/// Whether a message begins so, as far as its first twelve bytes tell.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    let Some([_, _, high, low, q, questions, ..]) = bytes.first_chunk::<HEADER>() else {
        return false;
    };
    let ordinary = high & 0x78 == 0 && low & 0x40 == 0 && *q == 0;
    ordinary && (*questions == 1 || *questions == 0 && high & 0x80 != 0)
}

#[cfg(test)]
pub mod wire {
    //! Messages as they are sent.

    fn name(text: &str) -> Vec<u8> {
        let label =
            |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
        let labels: Vec<u8> = text.split('.').filter(|l| !l.is_empty()).flat_map(label).collect();
        [labels.as_slice(), &[0]].concat()
    }

    /// A question of a type, by its number.
    pub fn query(id: u16, kind: u16, of: &str) -> Vec<u8> {
        let head = [&id.to_be_bytes()[..], &[1, 0x20, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
        [head, name(of), kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
    }

    /// What is answered to a question: a code, and records: name, type, seconds, data.
    pub fn answer(query: &[u8], code: u8, records: &[(&str, u16, u32, &[u8])]) -> Vec<u8> {
        let mut out = query.to_vec();
        (out[2], out[3]) = (0x81, 0x80 | code);
        out[7] = u8::try_from(records.len()).unwrap();
        for (of, kind, seconds, data) in records {
            out.extend(name(of));
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(seconds.to_be_bytes());
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(*data);
        }
        out
    }

    /// A name as data of an alias.
    pub fn alias(of: &str) -> Vec<u8> {
        name(of)
    }
}

#[cfg(test)]
mod tests {
    use super::wire::{alias, answer, query};
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Option<(String, Option<Answer>)> {
        let message = Message::parse(bytes)?;
        Some((message.question.map(|q| q.operation).unwrap_or_default(), message.answer))
    }

    #[test]
    fn a_question_and_its_answer_are_read() {
        let ask = query(0x1234, 28, "API.Example.com");
        let message = Message::parse(&ask).unwrap();
        assert_eq!((message.id, message.answer), (0x1234, None));
        let question = message.question.unwrap();
        assert_eq!(question.operation, "AAAA api.example.com");
        let lower = Message::parse(&query(1, 28, "api.example.com")).unwrap();
        assert_eq!(lower.question.unwrap().hash, question.hash);
        let other = Message::parse(&query(1, 1, "api.example.com")).unwrap();
        assert_ne!(other.question.unwrap().hash, question.hash);
        let failed = |code| read(&answer(&ask, code, &[])).unwrap().1.unwrap();
        assert_eq!((failed(3).code, failed(3).failed), ("NXDOMAIN", true));
        assert_eq!([2, 5, 13].map(|code| failed(code).code), ["SERVFAIL", "REFUSED", "OTHER"]);
        assert_eq!((failed(0).code, failed(0).failed), ("NOERROR", false));
        // A type nobody has heard of, and the root.
        assert_eq!(read(&query(1, 60_000, "")).unwrap().0, "OTHER .");
        // What could not be read is answered without its question.
        let nothing = [0x12, 0x34, 0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            read(&nothing).map(|(q, a)| (q, a.unwrap().code)),
            Some((String::new(), "FORMERR"))
        );
    }

    #[test]
    fn addresses_are_those_of_the_name_that_was_asked_for() {
        let ask = query(7, 1, "shop.example.com");
        let edge = alias("edge.cdn.net");
        let bytes = answer(
            &ask,
            0,
            &[
                ("other.example.com", 1, 9, &[9, 9, 9, 9]),
                ("Shop.example.com", 5, 20, &edge),
                ("edge.cdn.net", 1, 300, &[10, 0, 0, 7]),
                ("edge.cdn.net", 16, 300, b"\x03txt"),
                ("edge.cdn.net", 1, 10, &[10, 0, 0, 8]),
                ("shop.example.com", 1, 10, &[6, 6, 6, 6]),
            ],
        );
        let found = read(&bytes).unwrap().1.unwrap().addresses;
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(found, [(ip(7), 20), (ip(8), 10)]);
        // Cut off, what is there counts; a failure has none.
        let cut = read(&bytes[..bytes.len() - 60]).unwrap().1.unwrap().addresses;
        assert_eq!(cut, [(ip(7), 20)]);
        let failed = answer(&ask, 2, &[("shop.example.com", 1, 10, &[10, 0, 0, 7])]);
        assert_eq!(read(&failed).unwrap().1.unwrap().addresses, []);
        // An address of another length is none.
        let odd = answer(&ask, 0, &[("shop.example.com", 1, 10, &[10, 0, 0])]);
        assert_eq!(read(&odd).unwrap().1.unwrap().addresses, []);
    }

    #[test]
    fn what_is_hostile_is_nothing() {
        let ask = query(7, 1, "shop.example.com");
        let with = |at: usize, bytes: &[u8]| {
            let mut ask = ask.clone();
            ask.splice(at..at + bytes.len(), bytes.iter().copied());
            read(&ask)
        };
        assert!(with(0, &[]).is_some());
        // An update, a flag that is kept free, two questions, none, a question with an answer, a class.
        for (at, bytes) in [
            (2, vec![0x28]),
            (3, vec![0x40]),
            (5, vec![2]),
            (5, vec![0]),
            (7, vec![1]),
            (3, vec![3]),
            (ask.len() - 2, vec![7, 7]),
        ] {
            assert_eq!(with(at, &bytes), None, "{at} {bytes:?}");
        }
        // A name in circles, forward, beyond the end, with a bad label; cut off anywhere.
        for name in [[0xc0, 12], [0xc0, 14], [0xc0, 0xff], [0x80, 1], [63, 1]] {
            assert_eq!(with(12, &name), None, "{name:?}");
        }
        for length in 0..ask.len() {
            assert_eq!(read(&ask[..length]), None, "{length}");
        }
        // 255 bytes are a name, more are not.
        let long = |labels: usize| query(7, 1, &vec!["abcdefghi"; labels].join("."));
        assert!(read(&long(25)).is_some() && read(&long(26)).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(Message { question: Some(question), .. }) = Message::parse(&bytes) {
                prop_assert!(begins(&bytes) && question.labels.len() <= 128);
                prop_assert!(!question.operation.chars().any(char::is_control));
            }
        }

        #[test]
        fn any_damage_is_survived(at in 0usize..80, byte in any::<u8>(), length in 0usize..120) {
            let edge = alias("edge.cdn.net");
            let records: [(&str, u16, u32, &[u8]); 2] =
                [("a.b", 5, 20, &edge), ("edge.cdn.net", 1, 300, &[10, 0, 0, 7])];
            let mut bytes = answer(&query(7, 1, "a.b"), 0, &records);
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(length);
            let _ = Message::parse(&bytes);
        }
    }
}
