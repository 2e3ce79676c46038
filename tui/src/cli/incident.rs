//! `coral incident export`: a window as one file, secrets replaced, that opens anywhere.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use coral_model::redaction::RULES;
use coral_model::text::bytes;

use super::args::Export;
use super::exit::{Exit, Failure};
use super::{Context, ask};

/// Writes the file.
pub async fn export(context: &Context, export: &Export) -> Result<Exit, Failure> {
    let more = named(&export.redact_more)?;
    let window = ask::window(&export.when, &context.clock, context.config.window)?;
    let client = context.connect().await?;
    let mut chunks = client.export(window, more.clone()).await?;
    let mut target = Target::of(&export.output)?;
    let mut size = 0u64;
    while let Some(chunk) = chunks.message().await.map_err(crate::client::ClientError::from)? {
        target.out.write_all(&chunk.bytes).map_err(|e| target_failed(&export.output, &e))?;
        size += chunk.bytes.len() as u64;
    }
    target.finish().map_err(|e| target_failed(&export.output, &e))?;
    // On standard error: the file itself may go to standard output.
    let mut said = format!("{} of {} – {}", bytes(size), window.from, window.to);
    said.push_str("\nreplaced, equal values by equal pseudonyms:\n");
    for (name, what) in RULES {
        said.push_str(&format!("  {name:<7} {what}\n"));
    }
    for name in more {
        said.push_str(&format!("  asked   {name}\n"));
    }
    said.push_str("read it before you pass it on: zstd -dc FILE | less\n");
    _ = io::stderr().write_all(said.as_bytes());
    if export.output != "-" {
        super::standard::write(format!("coral open {}\n", export.output).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn named(words: &[String]) -> Result<Vec<String>, Failure> {
    let name = |word: &String| match word.split_once('=') {
        Some(("key", name)) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Failure::usage(format!("`{word}` names no attribute"))
            .next("coral incident export --redact-more key=customer.name -o incident.coral")),
    };
    words.iter().map(name).collect()
}

fn target_failed(path: &str, error: &io::Error) -> Failure {
    Failure::other(format!("{path} cannot be written: {error}"))
}

/// Where the file goes: beside its name until it is whole, readable for its owner only.
struct Target {
    out: Box<dyn Write>,
    rename: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn of(path: &str) -> Result<Self, Failure> {
        if path == "-" {
            return Ok(Self { out: Box::new(io::stdout().lock()), rename: None });
        }
        let whole = PathBuf::from(path);
        if whole.is_dir() {
            return Err(Failure::usage(format!("{path} is a folder")).next(format!(
                "coral incident export -o {}",
                whole.join("incident.coral").display()
            )));
        }
        let mut part = whole.clone().into_os_string();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.map_err(|e| target_failed(path, &e))?;
        Ok(Self { out: Box::new(io::BufWriter::new(file)), rename: Some((part, whole)) })
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()?;
        if let Some((part, whole)) = self.rename.take() {
            fs::rename(part, whole)?;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Half a file is none.
        if let Some((part, _)) = &self.rename {
            _ = fs::remove_file(Path::new(part));
        }
    }
}
