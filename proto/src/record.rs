//! Records of a spool segment: how they lie on disk, and travel.
//!
//! A segment file is a [`FILE_MAGIC`], its id, then records back to back. A record is a fixed
//! header of [`HEADER`] bytes and a body. The checksum covers header and body, so a record that
//! was half written when the power went is recognised and everything before it is kept. The uplink
//! ships the same bytes; a retry is identical to the first attempt.
//!
//! ```text
//! offset size
//!      0    4  body length in bytes (stored)        little endian throughout
//!      4    4  CRC32C of everything from offset 8 to the end of the body
//!      8    8  sequence number, ascending by one within a segment
//!     16    8  received at, Unix ns
//!     24    4  body length when decompressed
//!     28    1  kind
//!     29    1  codec: 0 as is, 1 LZ4 block
//!     30    2  zero
//! ```

use bytes::Bytes;

/// First bytes of a segment file; the 16 bytes of its id follow.
pub const FILE_MAGIC: [u8; 8] = *b"CORALSG1";
/// Bytes before the first record of a segment file.
pub const FILE_HEADER: usize = 24;
/// Bytes before a record's body.
pub const HEADER: usize = 32;
/// Largest body, decompressed. Larger OTLP requests are refused before they get here.
pub const MAX_BODY: usize = 64 << 20;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An `ExportTraceServiceRequest`.
    Traces = 1,
    /// An `ExportLogsServiceRequest`.
    Logs = 2,
    /// An `ExportMetricsServiceRequest`.
    Metrics = 3,
    /// A `coral.v1.Reduced`.
    Reduced = 16,
    /// A `coral.v1.HostReading`.
    Host = 17,
    /// A `coral.v1.AgentEvent`.
    Event = 18,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Traces,
            2 => Self::Logs,
            3 => Self::Metrics,
            16 => Self::Reduced,
            17 => Self::Host,
            18 => Self::Event,
            _ => return None,
        })
    }
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside the record: a torn write, or the end of what was sent.
    #[error("a record is cut short")]
    Truncated,
    /// The checksum does not match.
    #[error("a record's checksum is {found:08x}, not {stored:08x}")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Written in the header.
        stored: u32,
    },
    /// A kind or codec this build does not know.
    #[error("a record of kind {kind}, codec {codec} is newer than this build")]
    Unknown {
        /// Kind byte.
        kind: u8,
        /// Codec byte.
        codec: u8,
    },
    /// Larger than [`MAX_BODY`], or not what its header promised when decompressed.
    #[error("a record's body does not decompress to the {0} bytes it promises")]
    Body(usize),
}

/// A record, its body still as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Sequence number within its segment.
    pub seq: u64,
    /// When the agent received or made it, Unix ns.
    pub time_ns: u64,
    /// What it holds.
    pub kind: Kind,
    /// Whether the body is LZ4.
    compressed: bool,
    raw_len: usize,
    stored: Bytes,
}

impl Record {
    /// The body, decompressed.
    pub fn body(&self) -> Result<Bytes, RecordError> {
        if !self.compressed {
            return Ok(self.stored.clone());
        }
        let body = lz4_flex::block::decompress(&self.stored, self.raw_len)
            .map_err(|_| RecordError::Body(self.raw_len))?;
        if body.len() == self.raw_len {
            Ok(body.into())
        } else {
            Err(RecordError::Body(self.raw_len))
        }
    }

    /// Bytes it takes in a segment.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        HEADER + self.stored.len()
    }
}

/// Makes records, keeping its memory from one to the next.
///
/// [`Packer::pack`] compresses, which is the slow part; [`Packer::seal`] gives the record its place
/// in a segment. A writer packs on many threads and seals under one lock.
pub struct Packer {
    buffer: Vec<u8>,
    len: usize,
    table: lz4_flex::block::CompressTable,
}

impl Default for Packer {
    fn default() -> Self {
        let table = lz4_flex::block::CompressTable::default();
        Self { buffer: Vec::new(), len: 0, table }
    }
}

/// Memory a [`Packer`] keeps between records; a larger record's is given back.
const KEEP: usize = 2 << 20;

impl Packer {
    /// Compresses a body into the packer. Bodies that LZ4 does not shrink are stored as they are; a
    /// body longer than [`MAX_BODY`] is an error.
    pub fn pack(&mut self, kind: Kind, time_ns: u64, body: &[u8]) -> Result<(), RecordError> {
        self.len = 0;
        let raw_len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY);
        let raw_len = raw_len.ok_or(RecordError::Body(body.len()))?;
        let most = HEADER + lz4_flex::block::get_maximum_output_size(body.len());
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        } else if self.buffer.len() > KEEP && most < KEEP {
            self.buffer.truncate(KEEP);
            self.buffer.shrink_to_fit();
        }
        let room = self.buffer.get_mut(HEADER..).unwrap_or_default();
        let packed = lz4_flex::block::compress_into_with_table(body, room, &mut self.table);
        let (codec, stored) = match packed.ok().filter(|&n| n < body.len()) {
            Some(n) => (1, n),
            None => {
                if let Some(room) = room.get_mut(..body.len()) {
                    room.copy_from_slice(body);
                }
                (0, body.len())
            }
        };
        let stored_len = u32::try_from(stored).map_err(|_| RecordError::Body(body.len()))?;
        let mut header = [0u8; HEADER];
        put(&mut header, 0, &stored_len.to_le_bytes());
        put(&mut header, 16, &time_ns.to_le_bytes());
        put(&mut header, 24, &raw_len.to_le_bytes());
        put(&mut header, 28, &[kind as u8, codec]);
        if let Some(slot) = self.buffer.first_chunk_mut() {
            *slot = header;
        }
        self.len = HEADER + stored;
        Ok(())
    }

    /// Bytes of the packed record; 0 before the first.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        self.len
    }

    /// The packed record with its sequence number and checksum. May be called again with another
    /// number.
    pub fn seal(&mut self, seq: u64) -> &[u8] {
        if let Some(header) = self.buffer.first_chunk_mut::<HEADER>() {
            put(header, 8, &seq.to_le_bytes());
        }
        // Joining a ready checksum of the body with the header's (crc32c_combine) was measured at
        // several times what reading the body once more costs.
        let crc = crc32c::crc32c(self.buffer.get(8..self.len).unwrap_or_default());
        if let Some(header) = self.buffer.first_chunk_mut::<HEADER>() {
            put(header, 4, &crc.to_le_bytes());
        }
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

/// Appends a record to `out` (see [`Packer`]); on error nothing is appended.
pub fn append(
    out: &mut Vec<u8>,
    kind: Kind,
    seq: u64,
    time_ns: u64,
    body: &[u8],
) -> Result<(), RecordError> {
    let mut packer = Packer::default();
    packer.pack(kind, time_ns, body)?;
    out.extend_from_slice(packer.seal(seq));
    Ok(())
}

fn put(header: &mut [u8; HEADER], at: usize, bytes: &[u8]) {
    if let Some(slot) = header.get_mut(at..at + bytes.len()) {
        slot.copy_from_slice(bytes);
    }
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], RecordError> {
    bytes.get(at..).and_then(|b| b.first_chunk()).copied().ok_or(RecordError::Truncated)
}

/// Bytes of the whole record that this header begins, and its sequence number; unchecked.
#[must_use]
pub fn peek(header: &[u8; HEADER]) -> (usize, u64) {
    let [l0, l1, l2, l3, _, _, _, _, seq @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    (HEADER.saturating_add(length), u64::from_le_bytes(seq))
}

/// Reads the record at the front of `bytes` and takes it off.
pub fn take(bytes: &mut Bytes) -> Result<Record, RecordError> {
    let stored_len = u32::from_le_bytes(get(bytes, 0)?) as usize;
    let stored_crc = u32::from_le_bytes(get(bytes, 4)?);
    let raw_len = u32::from_le_bytes(get(bytes, 24)?) as usize;
    let [kind, codec] = get(bytes, 28)?;
    if stored_len > MAX_BODY || raw_len > MAX_BODY {
        return Err(RecordError::Body(raw_len.max(stored_len)));
    }
    let whole = bytes.get(8..HEADER + stored_len).ok_or(RecordError::Truncated)?;
    let found = crc32c::crc32c(whole);
    if found != stored_crc {
        return Err(RecordError::Checksum { found, stored: stored_crc });
    }
    let known = Kind::from_byte(kind).filter(|_| codec <= 1);
    let kind = known.ok_or(RecordError::Unknown { kind, codec })?;
    let record = Record {
        seq: u64::from_le_bytes(get(bytes, 8)?),
        time_ns: u64::from_le_bytes(get(bytes, 16)?),
        kind,
        compressed: codec == 1,
        raw_len,
        stored: bytes.slice(HEADER..HEADER + stored_len),
    };
    _ = bytes.split_to(HEADER + stored_len);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_in_order(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..10)) {
            let mut out = Vec::new();
            for (seq, body) in bodies.iter().enumerate() {
                append(&mut out, Kind::Logs, seq as u64, 5, body).unwrap();
            }
            let mut bytes = Bytes::from(out);
            for (seq, body) in bodies.iter().enumerate() {
                let record = take(&mut bytes).unwrap();
                prop_assert_eq!(record.seq, seq as u64);
                prop_assert_eq!(&record.body().unwrap()[..], &body[..]);
            }
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn a_changed_byte_is_noticed(body in prop::collection::vec(any::<u8>(), 0..200), at: usize, by in 1u8..) {
            let mut out = Vec::new();
            append(&mut out, Kind::Traces, 1, 2, &body).unwrap();
            let at = at % out.len();
            out[at] ^= by;
            prop_assert!(take(&mut Bytes::from(out)).is_err());
        }

        #[test]
        fn any_bytes_give_an_error_or_a_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = take(&mut Bytes::from(bytes)).and_then(|r| r.body());
        }
    }

    #[test]
    fn a_torn_tail_is_truncated_not_damaged() {
        let mut out = Vec::new();
        append(&mut out, Kind::Traces, 1, 2, &[1; 100]).unwrap();
        for cut in 0..out.len() {
            assert_eq!(take(&mut Bytes::copy_from_slice(&out[..cut])), Err(RecordError::Truncated));
        }
    }
}
