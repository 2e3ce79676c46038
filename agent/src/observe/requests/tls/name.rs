//! The server's name that a client asks for when it begins TLS (RFC 6066, 3): in clear text, and what its
//! program calls the server.

/// Longest name there is (RFC 1035, 2.3.4).
const LONGEST: usize = 253;
/// The extension, and the kind of a name in it.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What is left to read.
struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(n)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    /// Something whose length is before it, in a byte or in two; as far as it is known.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let n = self.byte()?;
        self.take(n.into())
    }

    fn list(&mut self) -> Option<&'a [u8]> {
        let n = self.short()?;
        self.take(n.into())
    }
}

/// The name in a ClientHello that begins a record, of which perhaps only the beginning is known; `None`
/// where there is none, or it is none.
#[must_use]
pub fn of_server(record: &[u8]) -> Option<&str> {
    let mut hello = Left(record);
    // Record: kind, version, length; message: kind, length (3), version, random (RFC 8446, 5.1 and 4.1.2).
    let head = hello.take(5)?;
    let message = hello.take(4)?;
    if head.first() != Some(&22) || message.first() != Some(&1) {
        return None;
    }
    _ = hello.take(2 + 32)?;
    _ = hello.short_list()?; // session
    _ = hello.list()?; // ciphers
    _ = hello.short_list()?; // compression
    _ = hello.short()?; // length of the extensions
    loop {
        let kind = hello.short()?;
        let body = hello.list()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = Left(Left(body).list()?);
        if names.byte()? != HOST_NAME {
            return None;
        }
        let name = std::str::from_utf8(names.list()?).ok()?;
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let right = !name.is_empty() && name.len() <= LONGEST && name.bytes().all(known);
        return right.then_some(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(name: &[u8]) -> Vec<u8> {
        let with =
            |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let names = with(&[&[HOST_NAME][..], &with(name)].concat());
        let extensions = [
            &[0, 23, 0, 0][..],
            &[0, 10][..],
            &with(&[0, 2, 0, 29]),
            &[0, 0][..],
            &with(&names),
            &[0, 16][..],
            &with(b"\0\x03\x02h2"),
        ];
        let rest = [
            &[3, 3][..],
            &[7; 32],
            &[1, 9],
            &with(&[0x13, 1, 0x13, 2]),
            &[1, 0],
            &with(&extensions.concat()),
        ]
        .concat();
        let length = u32::try_from(rest.len()).unwrap().to_be_bytes();
        let message = [&[1][..], &length[1..], &rest].concat();
        [&[22, 3, 1][..], &with(&message)].concat()
    }

    #[test]
    fn a_name_is_found_as_far_as_it_is_known_and_one() {
        let whole = hello(b"api.example.test");
        assert_eq!(of_server(&whole), Some("api.example.test"));
        // What comes behind it does not matter.
        assert_eq!(of_server(&whole[..whole.len() - 7]), Some("api.example.test"));
        assert_eq!(of_server(&whole[..whole.len() - 20]), None);
        for odd in [&b""[..], b"a b", b"\x1b[31m", b"x/y", &[b'a'; 254]] {
            assert_eq!(of_server(&hello(odd)), None);
        }
        assert_eq!(of_server(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..120) {
            let mut record = hello(b"api.example.test");
            record.truncate(cut);
            record.extend(bytes);
            _ = of_server(&record);
        }
    }
}
