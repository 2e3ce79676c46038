//! Files that somebody else exported.

use coral_daemon::incident::{END, import};

/// Largest batch that is handed on: what is committed at a time, and one line more.
const BATCH: usize = (8 << 20) + (1 << 20);

/// Any bytes as a file, and any lines inside a file that is whole: what is read adds up, whatever was
/// in it, and a file that is not whole is refused.
pub fn incident(data: &[u8]) {
    assert!(read(data).is_err() || data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    // Damage inside lines, not to the packing around them, which a checksum protects.
    let mut lines = data.to_vec();
    if !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
    let count = lines.iter().filter(|b| **b == b'\n').count();
    let crc = crc32c::crc32c(&lines);
    lines.extend(
        format!("{{\"schema\":\"{END}\",\"lines\":{count},\"crc32c\":\"{crc:08x}\"}}\n").bytes(),
    );
    let packed = zstd::encode_all(&lines[..], 1).expect("a vector takes all");
    let whole = read(&packed);
    // The same file without its last bytes is never taken for whole.
    let cut = &packed[..packed.len() - 5];
    assert!(read(cut).is_err(), "a file that was cut is read");
    if let Ok(rows) = whole {
        assert!(rows <= count);
    }
}

/// Rows that became part of a batch.
fn read(packed: &[u8]) -> Result<usize, ()> {
    let mut rows = 0;
    let read = import::read(packed, |batch| {
        assert!(batch.bytes <= BATCH);
        rows += batch.rows();
        Ok(())
    });
    let manifest = read.map_err(|_| ())?;
    assert!(manifest.from < manifest.to);
    let told: u64 = manifest.rows.values().sum();
    assert!(rows as u64 <= told, "{rows} rows of {told} lines");
    Ok(rows)
}
