//! Inflates bodies, up to a bound, holding the budget's bytes as it goes.

use std::io::Read;

use super::{Encoding, Refused};
use crate::budget::Held;

/// What a sender is told when the byte budget is spent.
pub(super) const NO_ROOM: &str =
    "the agent already holds as many bytes of requests as it may; send again later";

/// Bytes inflated between two looks at the bounds.
const STEP: usize = 256 << 10;

pub(super) fn too_large(limit: usize) -> Refused {
    Refused::TooLarge(format!(
        "the body is larger than {} MiB when decompressed",
        limit.div_ceil(1 << 20)
    ))
}

/// A body without compression: itself, or what `out` now holds.
pub(super) fn inflate<'a>(
    body: &'a [u8],
    encoding: Encoding,
    held: &mut Held,
    out: &'a mut Vec<u8>,
    limit: usize,
) -> Result<&'a [u8], Refused> {
    out.clear();
    match encoding {
        Encoding::Identity => return Ok(body),
        Encoding::Gzip => {
            let mut reader = flate2::bufread::MultiGzDecoder::new(body);
            read(&mut reader, out, limit, held, "gzip")?;
        }
        Encoding::Zstd => {
            let mut reader = zstd::stream::read::Decoder::with_buffer(body)
                .and_then(|mut reader| reader.window_log_max(WINDOW_LOG).map(|()| reader))
                .map_err(|e| Refused::Invalid(format!("the zstd decoder did not start: {e}")))?;
            read(&mut reader, out, limit, held, "zstd")?;
        }
    }
    Ok(out)
}

/// zstd windows up to 8 MiB: what RFC 8878 asks every decoder to support, and no more.
const WINDOW_LOG: u32 = 23;

fn read(
    reader: &mut impl Read,
    out: &mut Vec<u8>,
    limit: usize,
    held: &mut Held,
    what: &str,
) -> Result<(), Refused> {
    let compressed = held.bytes();
    loop {
        let have = out.len();
        // One byte more than the limit tells "too large" from "just fits".
        let step = STEP.min(limit + 1 - have) as u64;
        let room = out.capacity().max(have + STEP) as u64;
        if !held.grow_to(compressed.saturating_add(room)) {
            return Err(Refused::Busy(NO_ROOM.to_owned()));
        }
        let got = reader.by_ref().take(step).read_to_end(out).map_err(|error| {
            let why = if error.kind() == std::io::ErrorKind::UnexpectedEof {
                "it is cut short".to_owned()
            } else {
                error.to_string()
            };
            Refused::Invalid(format!("the body is not valid {what}: {why}"))
        })?;
        if got == 0 {
            return Ok(());
        }
        if out.len() > limit {
            return Err(too_large(limit));
        }
    }
}
