//! A person's own editor: the terminal is theirs while it runs, and the text comes back.

use std::io::{self, Read as _, Write as _};
use std::process::Command;

use crate::terminal::Session;

/// Longest text that is read back; the colony takes no longer statement.
const LONGEST: u64 = 64 << 10;

/// Has `text` edited; `None` when the editor says that it was given up.
///
/// # Errors
/// When there is no such editor, or the terminal cannot be taken again.
pub fn edit(session: &Session, text: &str) -> io::Result<Option<String>> {
    let mut file = tempfile::Builder::new().prefix("coral-").suffix(".sql").tempfile()?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.flush()?;
    let named = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // By a shell, as every program does it: the variable may hold options, or a whole line.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(file.path());
    let status = session.lend(|| command.status())??;
    if !status.success() {
        return Ok(None);
    }
    // By its name: editors replace files rather than write into them.
    let mut edited = Vec::new();
    std::fs::File::open(file.path())?.take(LONGEST).read_to_end(&mut edited)?;
    Ok(Some(String::from_utf8_lossy(&edited).into_owned()))
}
