//! What a file is, by what it begins with.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use coral_proto::pprof::Profile;

use super::OpenError;

/// Bytes that are looked at.
const HEAD: u64 = 64;
/// Bytes in which an incident's first line says what it is.
const FIRST_LINE: u64 = 16 << 10;

/// What can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A profile.
    Profile,
    /// What `coral incident export` wrote.
    Incident,
    /// OTLP/JSON or a log: whoever reads it in finds out which.
    Telemetry,
}

/// Looks at the beginning of a file, and below its compression.
///
/// # Errors
/// When it cannot be read.
pub fn of(path: &Path) -> Result<Kind, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let mut head = Vec::new();
    File::open(path).map_err(io)?.take(HEAD).read_to_end(&mut head).map_err(io)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        head.clear();
        let file = File::open(path).map_err(io)?;
        // Damage shows when it is read in, with its place.
        _ = flate2::read::GzDecoder::new(file).take(HEAD).read_to_end(&mut head);
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        head.clear();
        let file = File::open(path).map_err(io)?;
        if let Ok(plain) = zstd::stream::read::Decoder::new(file) {
            _ = plain.take(FIRST_LINE).read_to_end(&mut head);
        }
        let first = head.split(|&b| b == b'\n').next().unwrap_or_default();
        let says = |part: &[u8]| first.windows(part.len()).any(|w| w == part);
        if first.starts_with(b"{") && says(b"\"schema\":\"coral.incident/") {
            return Ok(Kind::Incident);
        }
        // Broken so early that it says nothing: its name does, and the colony says where it breaks.
        if head.is_empty() && path.extension().is_some_and(|e| e == "coral") {
            return Ok(Kind::Incident);
        }
    }
    Ok(if Profile::looks_like(&head) { Kind::Profile } else { Kind::Telemetry })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_told_from_telemetry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let kind = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            of(&path).unwrap()
        };
        assert_eq!(kind(b"{\"resourceSpans\":[]}"), Kind::Telemetry);
        assert_eq!(kind(b"\nINFO hello"), Kind::Telemetry);
        assert_eq!(kind(b""), Kind::Telemetry);
        let incident = "{\"colony\":\"x\",\"schema\":\"coral.incident/1\"}\n";
        assert_eq!(kind(&zstd::encode_all(incident.as_bytes(), 1).unwrap()), Kind::Incident);
        assert_eq!(kind(&zstd::encode_all(&b"INFO x"[..], 1).unwrap()), Kind::Telemetry);
        assert_eq!(kind(&[0x0a, 4, 8, 1, 0x10, 2, 0x12, 0]), Kind::Profile);
        assert!(of(&dir.path().join("none")).is_err());
    }
}
