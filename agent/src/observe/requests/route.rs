//! Routes: paths with what looks like an id taken out, so that there are few of them and nobody's
//! number is kept.
//!
//! A path says less than a framework's own route does, so this guesses; it would rather make two
//! resources one route than one resource a thousand. What a server does not have is one route,
//! whatever was asked for: scanners ask for everything.

/// What stands for an id.
pub(super) const ID: &str = "{id}";
/// The route of what was not found.
const NOT_FOUND: &str = "{not found}";
/// Segments that are kept; what is deeper is `*`.
const DEEP: usize = 8;
/// Longest segment that can be a word.
const WORD: usize = 40;

/// The route of a path that was answered with this status.
#[must_use]
pub fn of(path: &str, status: Option<u16>) -> String {
    if matches!(status, Some(404 | 410)) {
        return NOT_FOUND.to_owned();
    }
    let mut route = String::with_capacity(path.len().min(128));
    let mut segments = path.split('/');
    // What stands before the first slash: nothing, or `*`.
    route.push_str(segments.next().filter(|first| *first == "*").unwrap_or_default());
    for (n, segment) in segments.enumerate() {
        route.push('/');
        if n == DEEP {
            route.push('*');
            break;
        }
        push_word(&mut route, segment);
    }
    if route.is_empty() { "/".to_owned() } else { route }
}

/// Adds a piece of a path or a name, with what looks like an id taken out.
pub(super) fn push_word(route: &mut String, segment: &str) {
    if is_id(segment) {
        route.push_str(ID);
        return;
    }
    // `app.3f2a1b9c.js`, `invoice-2041.pdf`: ids among words.
    for (n, part) in segment.split_inclusive(['.', '-', '_', ',', ':', '~']).enumerate() {
        let word = part.trim_end_matches(['.', '-', '_', ',', ':', '~']);
        let between = part.get(word.len()..).unwrap_or_default();
        if n > 0 && is_id(word) || n == 0 && word.len() < segment.len() && is_id(word) {
            route.push_str(ID);
            route.push_str(between);
        } else {
            route.extend(part.chars().map(|c| if c.is_control() { '·' } else { c }));
        }
    }
}

/// Whether a piece of a path names one of many: a number, a long hexadecimal one, a UUID, a word nobody
/// would choose.
pub(super) fn is_id(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let mixed = text.bytes().any(|b| b.is_ascii_lowercase())
        && text.bytes().any(|b| b.is_ascii_uppercase());
    let odd = text.bytes().any(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_' | b'.'));
    match text.len() {
        0 => false,
        length if digits == length => true,
        length if length > WORD => true,
        // Of `beef` and `facade` nobody can tell.
        length if hex && digits > 0 && length >= 8 => true,
        length if length >= 16 && digits >= 3 && !text.contains('-') => true,
        // Base64 of something.
        length if length >= 16 && digits >= 1 && mixed && !text.contains('-') => true,
        // `%40`, `=`, `@`: encoded data, addresses.
        _ => odd && (text.contains('@') || text.contains("%40") || text.contains('=')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_taken_out_and_words_stay() {
        for (path, route) in [
            ("/", "/"),
            ("", "/"),
            ("*", "*"),
            ("/index.html", "/index.html"),
            ("/api/v1/users/42", "/api/v1/users/{id}"),
            ("/users/42/orders/7/", "/users/{id}/orders/{id}/"),
            ("/o/3fa85f64-5717-4562-b3fc-2c963f66afa6", "/o/{id}"),
            ("/blob/9f86d081884c7d659a2feaa0c55ad015", "/blob/{id}"),
            ("/static/app.3f2a1b9c.js", "/static/app.{id}.js"),
            ("/invoice-2041.pdf", "/invoice-{id}.pdf"),
            ("/2041-01.pdf", "/{id}-{id}.pdf"),
            ("/u/ann@example.com", "/u/{id}"),
            ("/t/dGhpcyBpcyBhIHRva2VuMTIz", "/t/{id}"),
            ("/small/facade/user-profile", "/small/facade/user-profile"),
            ("/a/b/c/d/e/f/g/h/i/j/k", "/a/b/c/d/e/f/g/h/*"),
            ("/s3/http2/ipv6", "/s3/http2/ipv6"),
        ] {
            assert_eq!(of(path, Some(200)), route, "{path}");
        }
        assert_eq!(of("/wp-login.php", Some(404)), "{not found}");
        assert_eq!(of("/slow", None), "/slow");
    }

    proptest! {
        #[test]
        fn any_path_has_a_bounded_route(path in ".{0,400}", n in any::<u64>()) {
            let route = of(&path, Some(200));
            prop_assert!(!route.is_empty() && !route.chars().any(char::is_control));
            prop_assert!(route.split('/').count() <= DEEP + 2);
            // Numbers do not make routes.
            prop_assert_eq!(of(&format!("/n/{n}"), None), "/n/{id}");
        }
    }
}
