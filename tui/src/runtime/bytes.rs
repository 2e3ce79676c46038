//! The few sequences that are not cells.

use base64::Engine as _;

/// Longest text put on a clipboard: terminals cut or refuse more.
const MOST: usize = 100_000;

/// OSC 52: the terminal puts `text` on the clipboard of the machine the person sits at, through
/// SSH too. tmux passes it on with `set-clipboard on`.
/// <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html#h3-Operating-System-Commands>
#[must_use]
pub fn osc52(text: &str) -> Vec<u8> {
    let cut: String = text.chars().take(MOST).collect();
    let code = base64::engine::general_purpose::STANDARD.encode(cut);
    format!("\x1b]52;c;{code}\x07").into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_encoded_and_cannot_end_the_sequence() {
        assert_eq!(super::osc52("coral\x07"), b"\x1b]52;c;Y29yYWwH\x07");
    }
}
