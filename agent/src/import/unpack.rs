//! Compression off, by what a file begins with, whatever it is called.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use super::ImportError;

/// Most bytes of content.
const LIMIT: u64 = 8 << 30;
/// What gzip (RFC 1952) and Zstandard (RFC 8878) files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The path of the file's content: its own, or `to`, where it was unpacked.
///
/// # Errors
/// When it cannot be read or unpacked whole.
pub fn plain(from: &Path, to: &Path) -> Result<PathBuf, ImportError> {
    let io = |source| ImportError::Io { path: from.to_owned(), source };
    let mut file = File::open(from).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut head = [0; 4];
    let mut have = 0;
    while let Some(room) = head.get_mut(have..).filter(|room| !room.is_empty()) {
        match file.read(room).map_err(io)? {
            0 => break,
            n => have += n,
        }
    }
    let file = BufReader::with_capacity(256 << 10, File::open(from).map_err(io)?);
    let (what, content): (_, Box<dyn Read>) = if head.starts_with(&GZIP) {
        ("gzip", Box::new(flate2::bufread::MultiGzDecoder::new(file)))
    } else if head == ZSTD {
        ("zstd", Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(io)?))
    } else {
        return Ok(from.to_owned());
    };
    let mut content = content.take(LIMIT + 1);
    let mut out = BufWriter::new(File::create(to).map_err(io)?);
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let n = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(source) => {
                return Err(ImportError::Packed { path: from.to_owned(), what, bytes, source });
            }
        };
        bytes += n as u64;
        if bytes > LIMIT {
            return Err(ImportError::TooLarge { path: from.to_owned(), limit: LIMIT });
        }
        out.write_all(buffer.get(..n).unwrap_or_default()).map_err(io)?;
    }
    out.flush().map_err(io)?;
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_comes_off_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("a"), dir.path().join("b"));
        let text = "hello\n".repeat(10_000);
        std::fs::write(&path, &text).unwrap();
        assert_eq!(plain(&path, &to).unwrap(), path);
        let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
        std::fs::write(&path, &packed).unwrap();
        assert_eq!(std::fs::read_to_string(plain(&path, &to).unwrap()).unwrap(), text);
        std::fs::write(&path, &packed[..packed.len() - 5]).unwrap();
        let error = plain(&path, &to).unwrap_err().to_string();
        assert!(error.contains("zstd"), "{error}");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let mut packed = gz.finish().unwrap();
        std::fs::write(&path, &packed).unwrap();
        assert_eq!(std::fs::read_to_string(plain(&path, &to).unwrap()).unwrap(), text);
        packed.truncate(packed.len() / 2);
        std::fs::write(&path, &packed).unwrap();
        assert!(matches!(plain(&path, &to), Err(ImportError::Packed { what: "gzip", .. })));
        assert!(plain(dir.path(), &to).is_err());
    }
}
