//! `docs/keys.md`, written from the table.

use std::fmt::Write as _;

use super::{COMMANDS, Group};

/// The page of keys, as the book has it.
#[must_use]
pub fn keys_page() -> String {
    let mut page = String::from(
        "# Keys\n\nThis page is written from the program's own table of commands (`tui/src/command/mod.rs`); a \
         test keeps the two equal.\n\nEvery command can also be run from the palette: `:` or `Ctrl-P`, some \
         of its letters, `Enter`. Keys are changed in `keymap.toml` in Coral's configuration folder, where \
         only differences stand:\n\n```toml\nservices = [\"2\", \"ctrl-s\"]   # these keys instead of the ones \
         below\nquit = []                     # no key at all\n```\n\nIn a line of text (filter, time, palette) \
         `Enter` accepts, `Esc` gives up, `Tab` completes, and pasted text is only ever text.\n",
    );
    for group in Group::ALL {
        let _ = write!(
            page,
            "\n## {}\n\n| keys | command | what it does |\n|---|---|---|\n",
            group.title()
        );
        for spec in COMMANDS.iter().filter(|c| c.group == *group) {
            let keys: Vec<String> = spec.keys.iter().map(|k| format!("`{k}`")).collect();
            let takes = spec.takes.map(|t| format!(" *{t}*")).unwrap_or_default();
            let help = spec.help.replace('|', "\\|");
            let _ = writeln!(page, "| {} | `{}`{takes} | {help} |", keys.join(" "), spec.name);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_the_book_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/keys.md");
        let wanted = super::keys_page();
        if std::env::var_os("CORAL_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, wanted, "write it with CORAL_WRITE_DOCS=1 cargo test -p coral-tui");
    }
}
