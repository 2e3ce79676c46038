//! Finding a command by some of its letters.

/// How well `pattern` matches `text`; `None` when its letters do not all occur in order. Starts of
/// words and runs of letters count more, so that `lv` finds `live` before `level`'s middle.
#[must_use]
pub fn score(pattern: &str, text: &str) -> Option<i32> {
    let mut total = 0;
    let mut run = 0;
    let mut last: Option<char> = None;
    let mut wanted = pattern.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase);
    let mut next = wanted.next();
    for (i, c) in text.chars().flat_map(char::to_lowercase).enumerate() {
        let Some(want) = next else { break };
        if c == want {
            run += 1;
            total += 2 * run;
            if i == 0 {
                total += 12;
            } else if last.is_some_and(|l| !l.is_alphanumeric()) {
                total += 6;
            }
            next = wanted.next();
        } else {
            run = 0;
            total -= 1;
        }
        last = Some(c);
    }
    next.is_none().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_matches_score_higher() {
        assert!(score("tr", "traces") > score("tr", "filter"));
        assert!(score("cq", "copy-query") > score("cq", "acquire"));
        assert_eq!(score("xyz", "traces"), None);
        assert_eq!(score("", "anything"), Some(0));
    }
}
