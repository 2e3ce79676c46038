//! Changing one setting in a file without touching anything else a person wrote there.

use super::spec::{Setting, Spec};

/// The text of a file with `spec` set to `value` (already checked): its line replaced where there is
/// one, else added to its section, which is added where there is none.
#[must_use]
pub fn set_in_text(text: &str, spec: &Spec, value: &str) -> String {
    let (section, name) = spec.key.rsplit_once('.').map_or(("", spec.key), |(s, n)| (s, n));
    let value = match spec.form {
        Setting::Switch => value.to_owned(),
        _ => toml::Value::String(value.to_owned()).to_string(),
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut current = String::new();
    let mut end_of_section = section.is_empty().then_some(0);
    for (i, line) in lines.iter_mut().enumerate() {
        let trimmed = line.trim();
        if let Some(header) = header(trimmed) {
            current = header.to_owned();
        } else if let Some((key, comment)) = assignment(trimmed)
            && full_key(&current, key) == spec.key
        {
            let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
            *line = format!("{indent}{key} = {value}{comment}");
            return finish(&lines);
        }
        if current == section && !trimmed.is_empty() {
            end_of_section = Some(i + 1);
        }
    }
    let line = format!("{name} = {value}");
    match end_of_section {
        Some(at) => lines.insert(at, line),
        None => {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("[{section}]"));
            lines.push(line);
        }
    }
    finish(&lines)
}

fn finish(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

fn full_key(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// `[section]`.
fn header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.split_once(']').map(|(name, _)| name.trim())
}

/// `key = value  # comment` as its key and what follows the value.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.split_once('=')?;
    let key = key.trim();
    if key.is_empty() || key.starts_with('#') {
        return None;
    }
    // A `#` inside a quoted value is no comment.
    let mut quoted = None;
    for (i, c) in rest.char_indices() {
        match quoted {
            Some(q) if c == q => quoted = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quoted = Some(c),
            None if c == '#' => {
                let at = rest.get(..i).map_or(i, |before| before.trim_end().len());
                return Some((key, rest.get(at..).unwrap_or_default()));
            }
            None => {}
        }
    }
    Some((key, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, key: &str, value: &str) -> String {
        let out = set_in_text(text, Spec::find(key).unwrap(), value);
        // Whatever was there before still is TOML, and the setting is in it.
        let table: toml::Table = out.parse().unwrap();
        let found = key.split('.').try_fold(toml::Value::Table(table), |v, k| v.get(k).cloned());
        assert_eq!(found.unwrap().to_string().trim_matches('"'), value, "{out}");
        out
    }

    #[test]
    fn a_line_is_replaced_and_its_comment_stays() {
        let text = "# mine\nwindow = \"1h\"  # long\n\n[ui]\n  theme = 'a#b' # c\n";
        assert_eq!(
            set(text, "window", "2h"),
            "# mine\nwindow = \"2h\"  # long\n\n[ui]\n  theme = 'a#b' # c\n"
        );
        assert!(set(text, "ui.theme", "x").contains("\n  theme = \"x\" # c\n"));
    }

    #[test]
    fn a_new_one_goes_into_its_section() {
        assert_eq!(set("", "window", "2h"), "window = \"2h\"\n");
        assert_eq!(set("", "ui.ascii", "true"), "[ui]\nascii = true\n");
        let text = "[ui]\nascii = true\n\n[otlp]\ngrpc = \"off\"\n";
        assert_eq!(
            set(text, "ui.theme", "x"),
            "[ui]\nascii = true\ntheme = \"x\"\n\n[otlp]\ngrpc = \"off\"\n"
        );
        // At the top, before any section.
        assert_eq!(
            set("[ui]\nascii = true\n", "window", "2h"),
            "window = \"2h\"\n[ui]\nascii = true\n"
        );
        assert_eq!(set("ui.theme = \"a\"\n", "ui.theme", "b"), "ui.theme = \"b\"\n");
    }
}
