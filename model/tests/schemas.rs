//! docs/schemas.md and the types rows are made of say the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use coral_model::view::Row;
use serde_json::Value;

/// What the page says about one schema.
#[derive(Default)]
struct Section {
    fields: BTreeSet<String>,
    /// Fields whose inside is documented under another schema.
    elsewhere: BTreeSet<String>,
    /// Fields whose keys are anybody's.
    maps: BTreeSet<String>,
    example: Option<String>,
}

fn page() -> BTreeMap<String, Section> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas.md");
    let text = std::fs::read_to_string(file).unwrap();
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut current);
            sections.insert(current.clone(), Section::default());
            continue;
        }
        let Some(section) = sections.get_mut(&current) else { continue };
        if let Some(row) = line.strip_prefix("| `") {
            let (field, rest) = row.split_once("` |").unwrap();
            section.fields.insert(field.to_owned());
            if rest.contains("the fields of `coral.") || rest.contains("rows as `coral.") {
                section.elsewhere.insert(field.to_owned());
            }
            if rest.trim_start().starts_with("map of") {
                section.maps.insert(field.to_owned());
            }
        }
        if line.starts_with("{\"schema\"") {
            section.example = Some(line.to_owned());
        }
    }
    sections
}

/// Every path in a row that the page must name.
fn paths(section: &Section, at: &str, value: &Value, out: &mut BTreeSet<String>) {
    if section.elsewhere.contains(at) || (at.ends_with(".red") || at == "red") {
        return;
    }
    let child = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(fields) if section.maps.contains(at) => {
            for inner in fields.values().filter(|v| v.is_object()) {
                paths(section, &child("*"), inner, out);
            }
        }
        Value::Object(fields) => {
            for (name, inner) in fields {
                if at.is_empty() && name == "schema" {
                    continue;
                }
                let path = child(name);
                if !inner.is_object() || section.fields.contains(&path) {
                    out.insert(path.clone());
                }
                paths(section, &path, inner, out);
            }
        }
        Value::Array(all) => {
            for inner in all.iter().filter(|v| v.is_object()) {
                paths(section, &format!("{at}[]"), inner, out);
            }
        }
        _ => {}
    }
}

#[test]
fn every_example_is_a_whole_row_and_every_field_is_described() {
    let mut seen = 0;
    for (name, section) in page() {
        let Some(example) = &section.example else { continue };
        seen += 1;
        let value: Value = serde_json::from_str(example).unwrap_or_else(|e| panic!("{name}: {e}"));
        let row: Row = serde_json::from_str(example).unwrap_or_else(|e| panic!("{name}: {e}"));
        // A field that the type has and the example has not would appear here.
        let back = serde_json::to_value(&row).unwrap();
        assert_eq!(back, value, "{name}: the example is not the whole row");
        assert_eq!(value["schema"], name.as_str());
        let mut found = BTreeSet::new();
        paths(&section, "", &value, &mut found);
        let missing: Vec<_> = found.difference(&section.fields).collect();
        assert!(missing.is_empty(), "{name}: not described: {missing:?}");
        let stale: Vec<_> = section.fields.difference(&found).collect();
        assert!(stale.is_empty(), "{name}: described, and not in the row: {stale:?}");
        // Everything is there to be described: nothing unknown, nothing empty.
        let text = serde_json::to_string(&value).unwrap();
        let nulls = text.replace("null]", "").contains("null");
        assert!(!nulls && !text.contains("[]") && !text.contains("{}"), "{name}: {text}");
    }
    assert_eq!(seen, 23, "every kind of row has an example");
}
