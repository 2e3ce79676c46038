//! `coral doctor --privacy`: every field that is kept, where it comes from, and for how long here.

use std::fmt::Write as _;

use coral_model::kept::{Field, Kept, PASSING, STORED};

use super::Context;
use super::exit::{Exit, Failure};
use super::output::Reader;
use super::standard;

/// Columns where the output is no terminal.
const WIDTH: usize = 100;

/// Prints the list.
pub fn run(context: &Context, json: bool) -> Result<Exit, Failure> {
    let explained = context.config.explain();
    let value = |key: &str| {
        let found = explained.iter().find(|setting| setting.key == key);
        found.map(|setting| setting.value.clone()).unwrap_or_default()
    };
    let text = if json {
        lines(&value)
    } else {
        let width = Reader::of_stdout(context.clock.clone()).width.unwrap_or(WIDTH);
        page(&value, width.clamp(40, WIDTH))
    };
    standard::write(text.as_bytes())?;
    Ok(Exit::Done)
}

/// `coral.privacy/1`: a line for each field of each signal.
fn lines(value: &impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let of = |kept: &Kept, field: &Field| {
        let settings: Vec<_> = kept
            .settings
            .iter()
            .map(|key| serde_json::json!({ "key": key, "value": value(key) }))
            .collect();
        let from: Vec<&str> = field.from.iter().map(|from| from.word()).collect();
        serde_json::json!({
            "schema": "coral.privacy/1", "signal": kept.signal, "fields": field.columns, "from": from,
            "what": field.what, "settings": settings, "until": kept.until,
        })
    };
    for kept in &STORED {
        for field in kept.fields {
            // Writing to a String cannot fail.
            _ = writeln!(text, "{}", of(kept, field));
        }
    }
    text
}

fn page(value: &impl Fn(&str) -> String, width: usize) -> String {
    let mut text = String::from("WHAT THE COLONY STORES, field by field\n");
    for kept in &STORED {
        let for_how_long = match kept.settings {
            [] => kept.until.to_owned(),
            [one] => format!("{} ({one})", value(one)),
            several => {
                let each = several.iter().map(|key| format!("{} ({key})", value(key)));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        text.push('\n');
        wrapped(&mut text, 0, width, &format!("{} · {for_how_long}", kept.signal));
        for field in kept.fields {
            let from: Vec<&str> = field.from.iter().map(|from| from.word()).collect();
            wrapped(&mut text, 2, width, &field.columns.join(", "));
            wrapped(&mut text, 6, width, &format!("from {}: {}", from.join(", "), field.what));
        }
    }
    text.push_str("\nWHAT PASSES THROUGH AN AGENT and is not kept\n\n");
    for (name, what) in PASSING {
        _ = writeln!(text, "  {name}");
        wrapped(&mut text, 6, width, what);
    }
    text.push('\n');
    wrapped(
        &mut text,
        0,
        width,
        "Nothing is seen through eBPF of programs that --watch leaves out, or at all with --no-ebpf, \
         and nothing within TLS with --tls never; no single request becomes a span without --spans on. \
         `coral config set retention.spans 1d` keeps spans for less time; `coral incident export` replaces \
         secrets before a file leaves.",
    );
    text
}

/// Adds a paragraph, broken between words.
fn wrapped(text: &mut String, indent: usize, width: usize, words: &str) {
    let mut line = 0;
    for word in words.split_whitespace() {
        let n = word.chars().count();
        if line > 0 && line + 1 + n > width {
            text.push('\n');
            line = 0;
        }
        if line == 0 {
            text.extend(std::iter::repeat_n(' ', indent));
            line = indent;
        } else {
            text.push(' ');
            line += 1;
        }
        text.push_str(word);
        line += n;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_told_with_how_long_it_is_kept() {
        let value = |key: &str| format!("<{key}>");
        let page = page(&value, 60);
        for kept in &STORED {
            for column in kept.fields.iter().flat_map(|field| field.columns) {
                assert!(page.contains(column), "{column}");
                assert!(lines(&value).contains(&format!("\"{column}\"")), "{column}");
            }
        }
        assert!(page.contains("logs · <retention.logs> (retention.logs)\n"), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 60), "{page}");
    }
}
