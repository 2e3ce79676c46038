//! What a person, or a line pasted from a chat, says.

use coral_model::filter as filters;
use coral_model::place::Place;
use coral_model::time::Time;
use coral_model::when::{self as moments, Clock};

/// A filter: what parses prints as something that means the same; errors point into the text.
pub fn filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match filters::parse(&text) {
        Ok(expr) => {
            let printed = expr.to_string();
            let again = filters::parse(&printed);
            let again = again.unwrap_or_else(|e| panic!("{printed:?} does not parse: {e}"));
            assert_eq!(again.to_string(), printed);
        }
        Err(error) => {
            // In columns of a terminal, of which no character takes more than it has bytes.
            assert!(error.column() <= text.len() + 1, "{error}");
        }
    }
    let _ = filters::split_words(&text);
    for (cursor, _) in text.char_indices().take(200) {
        let context = filters::complete::context(&text, cursor);
        for (choice, _) in filters::complete::known(&context).iter().take(2) {
            let (after, at) = filters::complete::apply(&text, cursor, &context, choice);
            assert!(after.is_char_boundary(at));
        }
    }
}

/// A place: what parses prints as the same place.
pub fn place(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(place) = text.parse::<Place>() {
        let again = place.to_string().parse::<Place>().expect("a place that does not parse again");
        assert_eq!(again.to_string(), place.to_string());
        let _ = place.command();
    }
}

/// Times and durations.
pub fn when(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let clock = Clock { now: Time(1_700_000_000_000_000_000), ..Clock::system(true) };
    let _ = moments::parse_time(&text, &clock);
    if let Ok(ns) = moments::parse_duration(&text) {
        let _ = moments::print_duration(ns);
    }
}
