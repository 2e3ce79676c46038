//! Which addresses may be asked.
//!
//! Somebody who can write a file must not make the agent ask the whole network: an address is asked
//! when it is this machine's own, or when the entry says the host's name a second time
//! (`allow_host`). What a name resolves to is judged, and exactly that is connected to.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host as written, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The entry says that this host may be asked though it is not this machine.
    pub allowed: bool,
}

/// Why a target is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an URL that can be asked.
    #[error("`{url}` is no address to scrape: {why}")]
    Url {
        /// As written.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another machine.
    #[error("{host} ({address}) is not this machine; add allow_host = \"{host}\" to ask it anyway")]
    Elsewhere {
        /// Host as written.
        host: String,
        /// What it is.
        address: IpAddr,
    },
    /// `allow_host` names another one.
    #[error("allow_host = \"{allowed}\" is not the host of the url, {host}")]
    Mismatch {
        /// Host as written.
        host: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Target {
    /// Reads an entry.
    ///
    /// # Errors
    /// When the URL is none, or `allow_host` names another host.
    pub fn parse(url: &str, allow_host: Option<&str>) -> Result<Self, TargetError> {
        let wrong = |why| TargetError::Url { url: url.to_owned(), why };
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(wrong("https is not spoken; use http on this machine"));
            }
            _ => return Err(wrong("write http://127.0.0.1:9100/metrics")),
        };
        if url.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return Err(wrong("it holds blanks or letters beyond ASCII"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("user and password are not sent"));
        }
        let path = path.split('#').next().unwrap_or_default();
        let path = match path {
            "" => "/metrics".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(|| wrong("a ] is missing"))?;
            (host, port.strip_prefix(':'))
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let port = match port {
            None => 80,
            Some(port) => port.parse().map_err(|_| wrong("its port is no number below 65536"))?,
        };
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let allowed = match allow_host {
            None => false,
            Some(allowed) if allowed.eq_ignore_ascii_case(host) => true,
            Some(allowed) => {
                let (host, allowed) = (host.to_owned(), allowed.to_owned());
                return Err(TargetError::Mismatch { host, allowed });
            }
        };
        Ok(Self { host: host.to_owned(), port, path, allowed })
    }

    /// `host:port`, as it stands in an URL.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether one of the addresses the host stands for may be asked.
    ///
    /// # Errors
    /// When it is another machine's.
    pub fn admit(&self, address: SocketAddr) -> Result<SocketAddr, TargetError> {
        if self.allowed || is_local(address.ip()) {
            return Ok(address);
        }
        Err(TargetError::Elsewhere { host: self.host.clone(), address: address.ip() })
    }
}

/// Whether an address is this machine's own: only those can be bound. (A port of 0 takes any free
/// one; nothing is sent.)
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || (!ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let parse = |url| Target::parse(url, None).map(|t| (t.authority(), t.path));
        let ok = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(parse("http://127.0.0.1:9100/metrics"), ok("127.0.0.1:9100", "/metrics"));
        assert_eq!(parse("http://localhost"), ok("localhost:80", "/metrics"));
        assert_eq!(parse("http://[::1]:9/m?a=b#c"), ok("[::1]:9", "/m?a=b"));
        assert_eq!(parse("http://h:1?x=y"), ok("h:1", "/?x=y"));
        for bad in [
            "127.0.0.1:9100",
            "https://h/",
            "http://",
            "http://u:p@h/",
            "http://h:99999/",
            "http://h/a b",
            "http://[::1/",
            "http://h/\r\nx: y",
        ] {
            assert!(matches!(parse(bad), Err(TargetError::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn other_machines_are_asked_only_when_named_again() {
        let here = "127.0.0.1:1".parse().unwrap();
        // TEST-NET-1 (RFC 5737): nobody's, so not this machine's.
        let there: SocketAddr = "192.0.2.7:9100".parse().unwrap();
        let plain = Target::parse("http://db-3:9100/", None).unwrap();
        assert_eq!(plain.admit(here), Ok(here));
        let refused = plain.admit(there).unwrap_err().to_string();
        assert!(refused.contains("allow_host = \"db-3\""), "{refused}");
        let named = Target::parse("http://db-3:9100/", Some("DB-3")).unwrap();
        assert_eq!(named.admit(there), Ok(there));
        let other = Target::parse("http://db-3:9100/", Some("db-4"));
        assert!(matches!(other, Err(TargetError::Mismatch { .. })));
        assert!(plain.admit("0.0.0.0:1".parse().unwrap()).is_err());
    }
}
