//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers, in the order of their bytes,
//! and go on where those of the length before ended. So the bytes of each length are all there is to
//! know of it.

/// Bytes by the length of their codes, in bits. The last code, thirty ones, ends a string and stands
/// in none.
const BYTES: [(u32, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (
        22,
        b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    ),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    ),
    (24, b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    ),
    (30, b"\x0a\x0d\x16"),
];
/// No code is shorter.
const SHORTEST: u32 = 5;

/// The byte whose code `bits` begin with, from the highest on, and how many of them it takes.
fn first(bits: u64) -> Option<(u8, u32)> {
    let (mut code, mut before) = (0u64, SHORTEST);
    for (length, bytes) in BYTES {
        code <<= length - before;
        before = length;
        let n = usize::try_from((bits >> (64 - length)).checked_sub(code)?).ok()?;
        if let Some(byte) = bytes.get(n) {
            return Some((*byte, length));
        }
        code += bytes.len() as u64;
    }
    None
}

/// Decodes a string, adds its first `most` bytes to `out`, and gives how many it has; `None` where it
/// is none.
#[must_use]
pub fn decode(string: &[u8], most: usize, out: &mut Vec<u8>) -> Option<usize> {
    // The bits that are next, from the highest on, and how many of them there are.
    let (mut bits, mut have, mut length) = (0u64, 0u32, 0usize);
    let mut rest = string.iter();
    loop {
        while have <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        match first(bits) {
            Some((byte, taken)) if taken <= have => {
                bits <<= taken;
                have -= taken;
                if length < most {
                    out.push(byte);
                }
                length += 1;
            }
            // What is left fills the last byte up, with ones.
            _ => return (have < 8 && bits.leading_ones() >= have).then_some(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut bits, mut have) = (0u64, 0u32);
        for wanted in text {
            let (mut code, mut before) = (0u64, SHORTEST);
            for (length, bytes) in BYTES {
                code <<= length - before;
                before = length;
                if let Some(n) = bytes.iter().position(|b| b == wanted) {
                    bits = bits << length | (code + n as u64);
                    have += length;
                    break;
                }
                code += bytes.len() as u64;
            }
            while have >= 8 {
                have -= 8;
                out.push((bits >> have & 0xff) as u8);
            }
        }
        if have > 0 {
            out.push((bits << (8 - have) & 0xff) as u8 | (0xff >> have));
        }
        out
    }

    fn decoded(string: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        let length = decode(string, 1_000, &mut out)?;
        assert_eq!(length, out.len());
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_code_is_that_of_the_rfc() {
        // Appendix C.4.1, C.4.2, C.6.1.
        let www = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(decoded(www).as_deref(), Some("www.example.com"));
        assert_eq!(decoded(b"\xa8\xeb\x10\x64\x9c\xbf").as_deref(), Some("no-cache"));
        assert_eq!(decoded(b"\x64\x02").as_deref(), Some("302"));
        assert_eq!(decoded(b"").as_deref(), Some(""));
        // Every byte has a code, and one is left for the end of a string.
        let all: usize = BYTES.iter().map(|(_, bytes)| bytes.len()).sum();
        let space: u64 = BYTES.iter().map(|(l, bytes)| (bytes.len() as u64) << (30 - l)).sum();
        assert_eq!((all, space), (256, (1 << 30) - 1));
    }

    #[test]
    fn what_is_no_string_is_refused() {
        // The end of a string, a byte of padding, padding that is not ones.
        for bad in [&b"\xff\xff\xff\xff"[..], b"\x64\x02\xff", b"\x00"] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
        let mut out = Vec::new();
        assert_eq!(decode(b"\xa8\xeb\x10\x64\x9c\xbf", 3, &mut out), Some(8));
        assert_eq!(out, b"no-");
    }

    proptest! {
        #[test]
        fn any_string_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            prop_assert_eq!(decode(&encode(&text), 1_000, &mut out), Some(text.len()));
            prop_assert_eq!(out, text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            let length = decode(&bytes, 1_000, &mut out);
            prop_assert!(length.is_none_or(|n| n == out.len() && n * 5 <= bytes.len() * 8));
        }
    }
}
