//! The shop's own little name service, on loopback only.
//!
//! `run` answers A queries for `<name>.shop.internal` with 127.0.0.1 and everything else with NXDOMAIN;
//! services ask it over UDP. So a wrong name really fails to resolve, and no query ever leaves the
//! machine. Just enough of RFC 1035: one question, one answer, no compression beyond a pointer to it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

/// The shop's zone.
pub const ZONE: &str = "shop.internal";
const TTL: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum DnsError {
    #[error("no such host: {0} (NXDOMAIN)")]
    NoSuchName(String),
    #[error("name server did not answer for {0}")]
    Timeout(String),
    #[error("name server's answer for {0} makes no sense")]
    Malformed(String),
    #[error("no name server for {0}: {1}")]
    Io(String, String),
}

impl DnsError {
    /// The low-cardinality word for `error.type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchName(_) => "nxdomain",
            Self::Timeout(_) => "dns_timeout",
            Self::Malformed(_) => "dns_malformed",
            Self::Io(..) => "dns_io",
        }
    }
}

/// Writes a question for one A record.
fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len().saturating_add(18));
    out.extend_from_slice(&id.to_be_bytes());
    // Flags: recursion desired. Counts: one question.
    out.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    Some(out)
}

/// Reads the question of a message: its name, and where the question ends.
fn read_question(message: &[u8]) -> Option<(String, usize)> {
    let mut at = 12usize;
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at = at.checked_add(1)?;
        if length == 0 {
            break;
        }
        if length > 63 || name.len() > 255 {
            return None;
        }
        let end = at.checked_add(length)?;
        let label = std::str::from_utf8(message.get(at..end)?).ok()?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(label);
        at = end;
    }
    let end = at.checked_add(4)?;
    (message.get(at..end)? == [0, 1, 0, 1]).then_some((name, end))
}

/// The name server's whole mind: an answer for a query, or nothing for what is no query.
pub fn answer(query: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let (name, end) = read_question(query)?;
    let known = name
        .strip_suffix(ZONE)
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|host| names.contains(&host));
    let mut out = query.get(..end)?.to_vec();
    // Response, authoritative, recursion desired; code 0 or 3 (NXDOMAIN).
    let header = [0x85, if known { 0x00 } else { 0x03 }, 0, 1, 0, u8::from(known), 0, 0, 0, 0];
    out.get_mut(2..12)?.copy_from_slice(&header);
    if known {
        // Pointer to the question's name, A, IN, TTL 5 s, four bytes of address.
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
    }
    Some(out)
}

/// Reads the answer to a question that was asked with `id` for `name`.
fn read_answer(message: &[u8], id: u16, name: &str) -> Result<Ipv4Addr, DnsError> {
    let malformed = || DnsError::Malformed(name.to_owned());
    let (asked, end) = read_question(message).ok_or_else(malformed)?;
    if message.get(..2) != Some(&id.to_be_bytes()) || asked != name {
        return Err(malformed());
    }
    match message.get(3).map(|flags| flags & 0x0f) {
        Some(0) => {}
        Some(3) => return Err(DnsError::NoSuchName(name.to_owned())),
        _ => return Err(malformed()),
    }
    let start = end.checked_add(12).ok_or_else(malformed)?;
    let stop = start.checked_add(4).ok_or_else(malformed)?;
    let bytes: [u8; 4] =
        message.get(start..stop).and_then(|b| b.try_into().ok()).ok_or_else(malformed)?;
    Ok(Ipv4Addr::from(bytes))
}

/// Serves until the task is dropped.
///
/// # Errors
/// When the socket fails for good.
pub async fn serve(socket: UdpSocket, names: &[&str]) -> std::io::Result<()> {
    let mut buffer = [0u8; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        if let Some(reply) = buffer.get(..length).and_then(|query| answer(query, names)) {
            // A client that is gone (ECONNREFUSED) is no reason to stop.
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

/// A service's side: asks, and remembers a good answer for its time to live.
pub struct Resolver {
    server: SocketAddr,
    known: Mutex<HashMap<String, (Ipv4Addr, Instant)>>,
}

impl Resolver {
    pub fn new(server: SocketAddr) -> Self {
        Self { server, known: Mutex::new(HashMap::new()) }
    }

    /// The remembered address, if it is still fresh.
    pub fn cached(&self, name: &str) -> Option<Ipv4Addr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).filter(|(_, at)| at.elapsed() < TTL).map(|(address, _)| *address)
    }

    /// Asks the name server.
    ///
    /// # Errors
    /// When there is no such name, or no sensible answer in time.
    pub async fn query(&self, name: &str) -> Result<Ipv4Addr, DnsError> {
        let io = |error: std::io::Error| DnsError::Io(name.to_owned(), error.to_string());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io)?;
        socket.connect(self.server).await.map_err(io)?;
        // The fresh local port tells answers apart; the id only has to be echoed.
        let id = socket.local_addr().map_err(io)?.port();
        let message = question(id, name).ok_or_else(|| DnsError::Malformed(name.to_owned()))?;
        let exchange = async {
            socket.send(&message).await.map_err(io)?;
            let mut buffer = [0u8; 512];
            let length = socket.recv(&mut buffer).await.map_err(io)?;
            read_answer(buffer.get(..length).unwrap_or_default(), id, name)
        };
        let address = tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| DnsError::Timeout(name.to_owned()))??;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (address, Instant::now()));
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_loopback_and_others_do_not_exist() {
        let names = ["payments", "redis"];
        for (name, wanted) in [
            ("payments.shop.internal", Ok(Ipv4Addr::LOCALHOST)),
            ("redis.shop.internal", Ok(Ipv4Addr::LOCALHOST)),
            ("paymets.shop.invalid", Err(DnsError::NoSuchName("paymets.shop.invalid".to_owned()))),
            ("shop.internal", Err(DnsError::NoSuchName("shop.internal".to_owned()))),
        ] {
            let query = question(77, name).unwrap();
            let reply = answer(&query, &names).unwrap();
            assert_eq!(read_answer(&reply, 77, name), wanted);
            assert!(read_answer(&reply, 78, name).is_err(), "another id");
        }
    }

    #[test]
    fn rubbish_is_not_answered() {
        assert_eq!(answer(&[], &[]), None);
        assert_eq!(answer(&[0xff; 40], &[]), None);
        let whole = question(1, "payments.shop.internal").unwrap();
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut], &["payments"]), None);
        }
        assert_eq!(question(1, "a..b"), None);
    }
}
