//! At the start: what a crash left over goes, and what is damaged is set aside.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use duckdb::Connection;

use super::StoreError;
use super::seal::checksum;
use super::segment::{self, MAGIC, Segment};
use super::tables::text;

/// A segment that could not be used, and why.
pub type Damaged = (Segment, String);

/// Makes manifest and files agree. With `adopt`, files that the manifest does not name are taken
/// into it: the database that named them was lost. Else they are what a crash left over, before the
/// transaction that would have named them or after the one that no longer does.
pub fn sweep(connection: &Connection, dir: &Path, adopt: bool) -> Result<Vec<Damaged>, StoreError> {
    let segments = dir.join(segment::DIR);
    let io = |source| StoreError::Directory { path: segments.clone(), source };
    let mut named: BTreeSet<String> =
        segment::load(connection)?.iter().map(Segment::file).collect();
    if adopt {
        let found = adoptable(connection, &segments, &named)?;
        for segment in &found {
            connection.execute_batch(&segment.insert())?;
        }
        named.extend(found.iter().map(Segment::file));
    }
    for entry in std::fs::read_dir(&segments).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let left = name.starts_with(segment::UNFINISHED)
            || (name.ends_with(".parquet") && !named.contains(&name));
        if left {
            std::fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    // A killed process does not remove what its questions had spilled.
    for entry in std::fs::read_dir(dir.join("tmp")).map_err(io)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("duckdb_temp") {
            _ = std::fs::remove_file(entry.path());
        }
    }
    let mut damaged = Vec::new();
    for segment in segment::load(connection)? {
        if let Err(why) = glance(&segments.join(segment.file()), &segment) {
            connection.execute_batch(&segment.delete())?;
            put_aside(&segments, &segment);
            damaged.push((segment, why));
        }
    }
    let lost: Vec<Segment> = damaged.iter().map(|(segment, _)| segment.clone()).collect();
    for segment in segment::useless(&segment::load(connection)?, &lost) {
        connection.execute_batch(&segment.delete())?;
        std::fs::remove_file(segments.join(segment.file())).map_err(io)?;
    }
    Ok(damaged)
}

/// Files nobody names, as what they say they are; those that a rewritten one covers are left out.
fn adoptable(
    connection: &Connection,
    dir: &Path,
    named: &BTreeSet<String>,
) -> Result<Vec<Segment>, StoreError> {
    let mut found: Vec<Segment> = Vec::new();
    let entries = std::fs::read_dir(dir)
        .map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let finished = name.ends_with(".parquet") && !name.starts_with(segment::UNFINISHED);
        if !finished || named.contains(&name) {
            continue;
        }
        let file = text(&entry.path().to_string_lossy());
        let label = format!(
            "SELECT value::VARCHAR FROM parquet_kv_metadata({file}) WHERE key::VARCHAR = 'coral'"
        );
        let rows = format!("SELECT num_rows::UBIGINT FROM parquet_file_metadata({file})");
        let one = connection.query_row(&label, [], |row| row.get::<_, String>(0));
        let count = connection.query_row(&rows, [], |row| row.get::<_, u64>(0));
        let (Ok(label), Ok(rows)) = (one, count) else { continue };
        let Some(segment) = Segment::from_label(&label) else { continue };
        let (Ok(bytes), Ok(checksum)) =
            (entry.metadata().map(|meta| meta.len()), checksum(&entry.path()))
        else {
            continue;
        };
        found.push(Segment { rows, bytes, checksum, ..segment });
    }
    let covered: Vec<Segment> =
        found.iter().filter(|s| found.iter().any(|other| other.covers(s))).cloned().collect();
    found.retain(|segment| !covered.contains(segment));
    Ok(found)
}

/// What a look at its size, beginning and end tells of a file.
fn glance(path: &Path, segment: &Segment) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    if bytes != segment.bytes {
        return Err(format!("it has {bytes} bytes, not {}", segment.bytes));
    }
    let mut ends = [[0u8; 4]; 2];
    let [first, last] = &mut ends;
    file.read_exact(first).map_err(|error| error.to_string())?;
    file.seek(SeekFrom::End(-4)).map_err(|error| error.to_string())?;
    file.read_exact(last).map_err(|error| error.to_string())?;
    if &*first == MAGIC && &*last == MAGIC {
        Ok(())
    } else {
        Err("it does not begin and end as a Parquet file does".to_owned())
    }
}

/// Reads a whole file and compares it with what was written.
pub fn examine(path: &Path, segment: &Segment) -> Result<(), String> {
    glance(path, segment)?;
    match checksum(path) {
        Ok(sum) if sum == segment.checksum => Ok(()),
        Ok(_) => Err("its checksum is not that of the file that was written".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Renames a damaged file, for whoever wants to look at it.
pub fn put_aside(dir: &Path, segment: &Segment) {
    let file = segment.file();
    _ = std::fs::rename(dir.join(&file), dir.join(format!("{file}.damaged")));
}
