//! What a name is called: as it was asked for, with what looks like an id taken out, so that there are few
//! of them and nobody's number is kept.
//!
//! As of routes this guesses, and would rather make two names one than one name a thousand. The two labels
//! at the end, which somebody registered, stay unless nobody would choose them; names that addresses have
//! (`in-addr.arpa`, `ip6.arpa`) are one each.

use crate::observe::requests::route::{ID, is_id, push_word};

/// Labels that are kept; what is further away from the root is `*`.
const DEEP: usize = 8;
/// Labels at the end that somebody registered.
const REGISTERED: usize = 2;
/// A label that looks like an id and has so many bytes is nobody's registered name: `163.com` is.
const LONG: usize = 16;

/// Of these labels, the root's left out.
pub fn of<'a>(labels: impl Iterator<Item = &'a [u8]>) -> String {
    let labels: Vec<String> = labels.filter(|label| !label.is_empty()).map(text).collect();
    if labels.is_empty() {
        return ".".to_owned();
    }
    let of_address = match labels.as_slice() {
        [.., zone, last] if last == "arpa" => zone == "in-addr" || zone == "ip6",
        _ => false,
    };
    let registered = labels.len().saturating_sub(REGISTERED);
    let mut out: Vec<String> = Vec::with_capacity(labels.len());
    for (at, label) in labels.into_iter().enumerate() {
        let word = match at < registered {
            true if of_address => ID.to_owned(),
            true => {
                let mut word = String::with_capacity(label.len());
                push_word(&mut word, &label);
                word
            }
            false if label.len() >= LONG && is_id(&label) => ID.to_owned(),
            false => label,
        };
        // Any number of them is one.
        if word != ID || out.last().is_none_or(|before| before != ID) {
            out.push(word);
        }
    }
    if out.len() > DEEP {
        out.drain(..out.len() - DEEP);
        out.insert(0, "*".to_owned());
    }
    out.join(".")
}

/// A label in small letters, for case says nothing and some resolvers play with it; what no name of a host
/// has is `·`.
fn text(label: &[u8]) -> String {
    let char = |byte: &u8| match byte {
        b'.' | b'*' => '·',
        byte if byte.is_ascii_graphic() => char::from(byte.to_ascii_lowercase()),
        _ => '·',
    };
    label.iter().map(char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_text(name: &str) -> String {
        of(name.split('.').map(str::as_bytes))
    }

    #[test]
    fn ids_are_taken_out_and_words_stay() {
        for (name, expected) in [
            ("", "."),
            ("com", "com"),
            ("API.Example.COM", "api.example.com"),
            ("163.com", "163.com"),
            ("1.debian.pool.ntp.org", "{id}.debian.pool.ntp.org"),
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6.example.com", "{id}.example.com"),
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6.local", "{id}.local"),
            (
                "ip-10-0-3-17.eu-west-1.compute.internal",
                "ip-{id}-{id}-{id}-{id}.eu-west-{id}.compute.internal",
            ),
            ("4.3.2.1.in-addr.arpa", "{id}.in-addr.arpa"),
            ("b.a.9.8.7.6.ip6.arpa", "{id}.ip6.arpa"),
            ("_http._tcp.shop.example.com", "_http._tcp.shop.example.com"),
            ("cart.shop.svc.cluster.local", "cart.shop.svc.cluster.local"),
            ("a.b.c.d.e.f.g.h.i.j", "*.c.d.e.f.g.h.i.j"),
            ("who knows\u{7}.example.com", "who·knows·.example.com"),
        ] {
            assert_eq!(of_text(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_short_and_can_be_shown(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..128)
        ) {
            let name = of(labels.iter().map(Vec::as_slice));
            prop_assert!(!name.is_empty() && !name.chars().any(char::is_control));
            prop_assert!(name.split('.').count() <= DEEP + 2);
        }
    }
}
