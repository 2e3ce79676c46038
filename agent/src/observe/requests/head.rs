//! Heads of HTTP/1.1 messages (RFC 9112): what is kept of them, and how long what follows is.
//!
//! Kept are the method, the path without its query, the status, and what `traceparent` says. No other
//! header's value leaves this file.

use super::traceparent::TraceParent;

/// Methods that are told apart; a message that begins with another word is not looked at.
pub const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
/// Longest path that is kept, in bytes.
const PATH: usize = 1_024;

/// Which way messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From who asks.
    Requests,
    /// From who answers.
    Responses,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection ends, or for ever.
    Close,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// One of [`METHODS`].
    pub method: &'static str,
    /// Without query; empty where the request names a host.
    pub path: String,
    /// Of the body.
    pub framing: Framing,
    /// What `traceparent` says.
    pub parent: TraceParent,
}

/// The head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Three digits.
    pub status: u16,
    /// Of the body, as far as the head alone says.
    pub framing: Framing,
}

/// It is not HTTP/1.1, or says two things about its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a head of HTTP/1.1")]
pub struct Broken;

/// Which side's message begins with these bytes; a few bytes may be the beginning of a word.
#[must_use]
pub fn begins(bytes: &[u8]) -> Option<Side> {
    let starts = |word: &[u8]| {
        let n = word.len().min(bytes.len());
        n > 0 && word.get(..n) == bytes.get(..n)
    };
    if starts(b"HTTP/1.") {
        return Some(Side::Responses);
    }
    let method = |method: &&str| {
        let (word, rest) = bytes.split_at(method.len().min(bytes.len()));
        starts(method.as_bytes()) && (word.len() < method.len() || matches!(rest, [] | [b' ', ..]))
    };
    METHODS.iter().any(method).then_some(Side::Requests)
}

/// Where a head that begins with `bytes` ends, behind its empty line; nothing before `from` is looked
/// at again.
#[must_use]
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    loop {
        let line = bytes.get(at..)?.iter().position(|b| *b == b'\n')?;
        at += line + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

/// Lines of a head, the first among them, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// What headers say of the body and the trace.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    coded: bool,
    parent: TraceParent,
}

fn headers<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Result<Said, Broken> {
    let mut said = Said::default();
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value).ok_or(Broken)?;
            if said.length.replace(length).is_some_and(|before| before != length) {
                return Err(Broken);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
            said.coded = true;
            said.chunked = last.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"traceparent") {
            said.parent = TraceParent::parse(value).unwrap_or_default();
        }
    }
    Ok(said)
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

impl Request {
    /// Reads a head, its empty line included or not.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(head: &[u8]) -> Result<Self, Broken> {
        let mut lines = lines(head);
        let first = lines.next().ok_or(Broken)?;
        let mut words = first.split(|b| *b == b' ');
        let (method, target) = (words.next().ok_or(Broken)?, words.next().ok_or(Broken)?);
        let version = words.next().ok_or(Broken)?;
        let method = METHODS.into_iter().find(|m| m.as_bytes() == method).ok_or(Broken)?;
        if !version.starts_with(b"HTTP/1.") || words.next().is_some() || target.is_empty() {
            return Err(Broken);
        }
        let said = headers(lines)?;
        let framing = match (said.coded, said.chunked, said.length) {
            (true, true, _) => Framing::Chunked,
            // A request cannot end with its connection.
            (true, false, _) => return Err(Broken),
            (false, _, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Self { method, path: path(method, target), framing, parent: said.parent })
    }

    /// What its first line says, where the rest is not known.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse_line(head: &[u8]) -> Result<Self, Broken> {
        let end = head.iter().position(|b| *b == b'\n').ok_or(Broken)?;
        Self::parse(head.get(..end).unwrap_or_default())
    }
}

/// The path of a target: of `/a?b=c`, `http://host/a?b=c`; none of `host:port` and `*`.
pub(super) fn path(method: &str, target: &[u8]) -> String {
    if method == "CONNECT" {
        return String::new();
    }
    let target = match target.windows(3).position(|w| w == b"://") {
        Some(at) if !target.starts_with(b"/") => {
            let rest = target.get(at + 3..).unwrap_or_default();
            let slash = rest.iter().position(|b| *b == b'/');
            slash.and_then(|at| rest.get(at..)).unwrap_or(b"/")
        }
        _ => target,
    };
    let end = target.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(target.len());
    let path = target.get(..end.min(PATH)).unwrap_or_default();
    String::from_utf8_lossy(path).into_owned()
}

impl Response {
    /// Reads a head, its empty line included or not.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(head: &[u8]) -> Result<Self, Broken> {
        let mut lines = lines(head);
        let first = lines.next().ok_or(Broken)?;
        let mut words = first.split(|b| *b == b' ');
        let (version, status) = (words.next().ok_or(Broken)?, words.next().ok_or(Broken)?);
        let digits = status.len() == 3 && version.starts_with(b"HTTP/1.");
        let status = number(status).and_then(|n| u16::try_from(n).ok()).filter(|_| digits);
        let status = status.filter(|status| *status >= 100).ok_or(Broken)?;
        let said = headers(lines)?;
        let framing = match (said.coded, said.chunked, said.length) {
            (true, true, _) => Framing::Chunked,
            (true, false, _) | (false, _, None) => Framing::Close,
            (false, _, Some(length)) => Framing::Length(length),
        };
        Ok(Self { status, framing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_told_from_what_is_none() {
        for text in ["GET /", "G", "POST", "PO", "DELETE /x HTTP/1.1", "CONNECT a:1"] {
            assert_eq!(begins(text.as_bytes()), Some(Side::Requests), "{text}");
        }
        for text in ["HTTP/1.1 200 OK", "HTTP", "HTTP/1.0"] {
            assert_eq!(begins(text.as_bytes()), Some(Side::Responses), "{text}");
        }
        for text in
            ["", "GETS /", "get /", "HTTP/2 200", "\x16\x03\x01", "PRI * HTTP/2.0", "<html>"]
        {
            assert_eq!(begins(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_it_was_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for from in 0..27 {
            assert_eq!(end(head, from), Some(27), "{from}");
            assert_eq!(end(&head[..from], 0), None, "{from}");
        }
        assert_eq!(end(b"GET / HTTP/1.1\nA: b\n\nrest", 0), Some(21));
    }

    #[test]
    fn of_a_request_only_method_path_and_trace_are_kept() {
        let head = b"POST http://shop.example/cart/7?token=secret HTTP/1.1\r\nCookie: id=1\r\n\
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
            content-length: 12\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.method, request.path.as_str()), ("POST", "/cart/7"));
        assert_eq!(request.framing, Framing::Length(12));
        assert_eq!(request.parent.trace[..3], [0x4b, 0xf9, 0x2f]);
        assert_eq!((request.parent.span[7], request.parent.sampled), (0xb7, true));
        assert_eq!(Request::parse_line(head).unwrap().path, "/cart/7");
        assert_eq!(Request::parse(b"OPTIONS * HTTP/1.1\r\n\r\n").unwrap().path, "*");
        assert_eq!(Request::parse(b"CONNECT a:1 HTTP/1.1\r\n\r\n").unwrap().path, "");
        for bad in [
            "GET /\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert_eq!(Request::parse(bad.as_bytes()), Err(Broken), "{bad}");
        }
    }

    #[test]
    fn a_response_says_how_it_ends() {
        let framing = |rest: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{rest}\r\n\r\n");
            Response::parse(head.as_bytes()).map(|r| r.framing)
        };
        assert_eq!(framing("Content-Length: 5"), Ok(Framing::Length(5)));
        assert_eq!(framing("Transfer-Encoding: gzip, Chunked"), Ok(Framing::Chunked));
        assert_eq!(
            framing("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            Ok(Framing::Chunked)
        );
        assert_eq!(framing("Server: x"), Ok(Framing::Close));
        assert_eq!(framing("Content-Length: x"), Err(Broken));
        assert_eq!(Response::parse(b"HTTP/1.1 404\r\n\r\n").unwrap().status, 404);
        assert_eq!(Response::parse(b"HTTP/1.1 99 X\r\n\r\n"), Err(Broken));
    }
}
