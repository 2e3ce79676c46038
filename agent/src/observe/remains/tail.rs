//! The last lines of a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::output::{LINES, line};
use crate::observe::logs::Format;
use crate::observe::logs::line::unwrap_docker;

/// Bytes read of a file's end.
const END: u64 = 64 << 10;

/// The last lines, oldest first; of the file with this number where one is given. Who writes a log chooses what
/// is behind its name: no link is followed, nothing but a file read, and nothing waited for.
pub(super) fn of(path: &Path, format: Format, number: Option<u64>) -> io::Result<Vec<String>> {
    let mut file = open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || number.is_some_and(|number| meta.ino() != number) {
        return Err(io::Error::other("there is another file by now"));
    }
    let length = meta.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if length > END && lines.len() > 1 {
        // It began before.
        lines.remove(0);
    }
    let text = |bytes: &&[u8]| match format {
        Format::Docker => line(unwrap_docker(&String::from_utf8_lossy(bytes))?.text.as_bytes()),
        _ => line(bytes),
    };
    let mut lines: Vec<String> = lines.iter().rev().filter_map(text).take(LINES).collect();
    lines.reverse();
    Ok(lines)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn the_end_of_a_file_is_read_in_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let all = (0..30_000).fold(String::new(), |mut all, n| {
            writeln!(all, "line {n}").unwrap();
            all
        });
        std::fs::write(&path, all).unwrap();
        let lines = of(&path, Format::Text, None).unwrap();
        assert_eq!((lines.len(), lines[0].as_str()), (200, "line 29800"));
        std::fs::write(&path, "y".repeat(100_000) + "\nboom").unwrap();
        let number = std::fs::metadata(&path).unwrap().ino();
        assert_eq!(of(&path, Format::Text, Some(number)).unwrap(), ["boom"]);
        let docker =
            "{\"log\":\"oh no\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:00Z\"}\n";
        std::fs::write(&path, format!("cut off{docker}{docker}")).unwrap();
        assert_eq!(of(&path, Format::Docker, None).unwrap(), ["oh no"]);
        assert!(of(&dir.path().join("none"), Format::Text, None).is_err());
    }

    #[test]
    fn what_took_the_files_name_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("x.log"), dir.path().join("link"));
        std::fs::write(&path, "secret").unwrap();
        let number = std::fs::metadata(&path).unwrap().ino();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(of(&link, Format::Text, Some(number)).is_err(), "a link");
        assert!(of(&path, Format::Text, Some(number + 1)).is_err(), "another");
        assert!(of(dir.path(), Format::Text, None).is_err(), "a folder");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(of(&pipe, Format::Text, None).is_err(), "a pipe without a writer");
    }
}
