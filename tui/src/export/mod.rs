//! Pictures of the screen, from the program's own cells: SVG, or text with its looks.

mod svg;
mod text;

use std::io::Write as _;
use std::path::PathBuf;

use ratatui::buffer::Buffer;

pub use svg::svg;
pub use text::{plain, styled};

/// Writes the picture to a file that does not exist yet: `.txt` is text, anything else SVG.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write(file: &str, buffer: &Buffer, title: &str) -> std::io::Result<PathBuf> {
    let path = PathBuf::from(file);
    let text = if path.extension().is_some_and(|e| e == "txt") {
        plain(buffer)
    } else {
        svg(buffer, title)
    };
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    out.write_all(text.as_bytes())?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}
