//! Standard output, and what a shell may have made of it.

use std::io::{self, Write};

use super::exit::Failure;

/// Writes and flushes. A reader that has gone away ends the program without a word.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// `status>=500` without quotes makes a file called `=500`, and a filter that asks for something
/// else: say so, where it can be seen.
pub fn warn_of_redirection() {
    // A terminal is called `/dev/pts/3`: only a regular file can be such a slip.
    let regular = std::fs::metadata("/proc/self/fd/1").is_ok_and(|meta| meta.is_file());
    let Ok(file) = std::fs::read_link("/proc/self/fd/1") else { return };
    if !regular {
        return;
    }
    let Some(name) = file.file_name().and_then(|n| n.to_str()) else { return };
    if let Some(warning) = redirected(name) {
        // Nothing can be done should standard error be gone too.
        _ = writeln!(io::stderr(), "{warning}");
    }
}

fn redirected(name: &str) -> Option<String> {
    let value = name.strip_prefix('=').unwrap_or(name);
    let number = value.parse::<f64>().is_ok() || coral_model::when::parse_duration(value).is_ok();
    (name.starts_with('=') || number).then(|| {
        let name = coral_model::text::fit(name, 40);
        format!(
            "coral: warning: the answer goes to a file named `{name}`: the shell took `>` as a \
             redirection; quote the filter ('status>=500') or write status=500.."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_named_like_a_bound_is_warned_about() {
        for name in ["=500", "=250ms", "250ms", "500", "=x"] {
            assert!(redirected(name).is_some(), "{name}");
        }
        for name in ["out.json", "null", "rows", "pipe:[123]", "0"] {
            assert_eq!(redirected(name).is_some(), name == "0", "{name}");
        }
    }
}
