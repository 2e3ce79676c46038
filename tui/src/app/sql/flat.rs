//! A statement on one line.

/// A statement on one line: its own remarks left out, as a line end is what ends them.
#[must_use]
pub fn flat(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len());
    let mut chars = statement.chars().peekable();
    let mut quote: Option<char> = None;
    while let Some(c) = chars.next() {
        match quote {
            Some(q) => {
                out.push(c);
                if c == q {
                    quote = None;
                }
            }
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                out.push(c);
            }
            None if c == '-' && chars.peek() == Some(&'-') => {
                for c in chars.by_ref() {
                    if c == '\n' {
                        break;
                    }
                }
                blank(&mut out);
            }
            None if c.is_whitespace() => blank(&mut out),
            None => out.push(c),
        }
    }
    out.trim().to_owned()
}

fn blank(out: &mut String) {
    if !out.ends_with(' ') {
        out.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::flat;

    #[test]
    fn one_line_means_the_same() {
        let text = "-- why\nSELECT 'a -- b\n', \"c--d\" -- e 'f'\n  FROM\tspans;";
        assert_eq!(flat(text), "SELECT 'a -- b\n', \"c--d\" FROM spans;");
        assert_eq!(flat("SELECT 'it''s -- x' -- y"), "SELECT 'it''s -- x'");
        assert_eq!(flat("SELECT 1 - -1 --"), "SELECT 1 - -1");
        assert_eq!(flat(" \n "), "");
    }
}
