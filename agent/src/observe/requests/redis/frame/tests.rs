use proptest::prelude::*;

use super::*;

/// What is found in pieces.
fn found(side: Side, pieces: &[Piece<'_>]) -> Vec<String> {
    let mut frames = Frames::new(side);
    let mut out = Vec::new();
    for piece in pieces {
        let mut piece = *piece;
        loop {
            match frames.next(&mut piece) {
                Step::Idle => break,
                Step::Lost => out.push("lost".to_owned()),
                Step::Message(m) => {
                    let words = m.words.iter().map(|w| String::from_utf8_lossy(w.get()));
                    let words: Vec<_> = words.filter(|w| !w.is_empty()).collect();
                    let error = m.error().map(String::from_utf8_lossy).unwrap_or_default();
                    let said = format!("{}{} {}", char::from(m.kind), m.elements, words.join(" "));
                    out.push(format!("{said}{error}").trim_end().to_owned());
                }
            }
        }
        assert!(piece.is_empty());
    }
    out
}

fn whole(bytes: &[u8]) -> Piece<'_> {
    Piece::new(bytes, bytes.len() as u64)
}

fn replies(text: &str) -> Vec<String> {
    found(Side::Responses, &[whole(text.replace('\n', "\r\n").as_bytes())])
}

fn commands(text: &str) -> Vec<String> {
    found(Side::Requests, &[whole(text.replace('\n', "\r\n").as_bytes())])
}

#[test]
fn commands_are_arrays_of_strings_or_lines() {
    let told = commands("*2\n$3\nGET\n$1\na\nPING\n\n  config get  x\n*0\n*1\n$4\nQUIT\n");
    assert_eq!(told, ["*2 GET a", "i1 PING", "i3 config get x", "*0", "*1 QUIT"]);
    // A line's end inside a string is none of the protocol's.
    assert_eq!(commands("*3\n$3\nSET\n$1\nk\n$8\n\n*1\n$1\n\n"), ["*3 SET k \r\n*1\r\n$1"]);
    for bad in ["*1\n:1\n", "*1\n$3\nGETS\n", "*x\n", "*1\n$-2\n", "*1\n$99999999999\n"] {
        assert_eq!(commands(&format!("*1\n$4\nPING\n{bad}")).last().unwrap(), "lost", "{bad}");
    }
}

#[test]
fn every_kind_of_reply_is_one_message() {
    for (text, told) in [
        ("+OK\n", "+0"),
        ("-WRONGTYPE Operation against\n", "-0 WRONGTYPE"),
        ("-ERR\n", "-0 ERR"),
        (":-7\n", ":0"),
        ("$-1\n", "$0"),
        ("$0\n\n", "$0"),
        ("*-1\n", "*0"),
        ("*0\n", "*0"),
        ("*2\n*2\n$1\na\n*0\n-ERR inner\n", "*2"),
        ("_\n", "_0"),
        (",1.5\n", ",0"),
        ("#t\n", "#0"),
        ("(3492890328409238509324850943850943825024385\n", "(0"),
        ("!21\nSYNTAX invalid syntax\n", "!0 SYNTAX"),
        ("=15\ntxt:Some string\n", "=0"),
        ("%2\n+a\n:1\n$1\nb\n%1\n+c\n_\n", "%2  b"),
        ("~3\n+a\n#f\n:3\n", "~3"),
        (">3\n$7\nmessage\n$1\nc\n$2\nhi\n", ">3 message c hi"),
        // An attribute stands before what it is of.
        ("|1\n+ttl\n:3600\n$1\na\n", "$0"),
        ("*2\n|1\n+ttl\n:3600\n$1\na\n$1\nb\n", "*2 a b"),
    ] {
        let told = told.replace("  ", " ");
        assert_eq!(replies(text), [told.as_str()], "{text}");
        assert_eq!(replies(&text.repeat(3)).len(), 3, "{text}");
    }
}

#[test]
fn long_strings_are_skipped_whether_their_bytes_are_known_or_not() {
    let head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n";
    let ping = b"*1\r\n$4\r\nPING\r\n";
    let cut = Piece::new(head, head.len() as u64 + 60_000);
    let told = found(Side::Requests, &[cut, Piece::gap(40_002), whole(ping)]);
    assert_eq!(told, ["*3 SET k", "*1 PING"]);
    // The line's end is known, and no more.
    let last = [b"\r\n", &ping[..]].concat();
    let cut = Piece::new(head, head.len() as u64 + 100_000);
    assert_eq!(found(Side::Requests, &[cut, whole(&last)]), ["*3 SET k", "*1 PING"]);
    // A string that is shorter than it was said to be.
    let cut = Piece::new(head, head.len() as u64 + 99_999);
    assert_eq!(found(Side::Requests, &[cut, whole(&last)]), ["lost"]);
}

#[test]
fn the_place_is_lost_in_what_is_unknown_and_found_where_a_message_begins() {
    let get = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    let cut = Piece::new(get, get.len() as u64 + 30);
    let rest = whole(b"of something\r\n");
    assert_eq!(found(Side::Requests, &[cut, rest, whole(get)]), ["*2 GET a", "lost", "*2 GET a"]);
    // Which command it is cannot be skipped.
    let cut = Piece::new(b"*2\r\n$3\r\nG", 13);
    assert_eq!(found(Side::Requests, &[cut, whole(get)]), ["lost", "*2 GET a"]);
    let deep = "*1\n".repeat(DEEP + 1);
    assert_eq!(replies(&deep), ["lost"]);
}

#[test]
fn beginnings() {
    for text in ["*1\r\n$4\r\nPING", "*12\r", "*100", "PING", "PING\r\n", "*3\r\n"] {
        assert!(begins_command(text.as_bytes()), "{text}");
    }
    for text in ["", "*1", "*0\r\n", "*1\r\n:", "* OK", "PINGS", "*12345678901", "GET a"] {
        assert!(!begins_command(text.as_bytes()), "{text}");
    }
    for text in ["+", "+OK", "-ERR", "$5\r\n", "$-1\r\n", "*", ":7", "%1\r\n", ">3\r", "_\r\n"] {
        assert!(begins_reply(text.as_bytes()), "{text}");
    }
    for text in ["", "OK", "$x", "*x", "PONG", "\u{0}", "$5 apples"] {
        assert!(!begins_reply(text.as_bytes()), "{text}");
    }
}

/// A reply of any shape, as text.
fn reply() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("+OK\r\n".to_owned()),
        Just("-ERR no\r\n".to_owned()),
        Just("$-1\r\n".to_owned()),
        any::<i64>().prop_map(|n| format!(":{n}\r\n")),
        "[a-z*$\r\n]{0,60}".prop_map(|text| format!("${}\r\n{text}\r\n", text.len())),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let some = prop::collection::vec(inner, 0..4);
        let kinds = prop::sample::select(vec!['*', '~', '>', '%']);
        (kinds, some).prop_map(|(kind, mut all)| {
            if kind == '%' && all.len() % 2 == 1 {
                all.pop();
            }
            let n = if kind == '%' { all.len() / 2 } else { all.len() };
            format!("{kind}{n}\r\n{}", all.concat())
        })
    })
}

fn cut<'t>(text: &'t str, cuts: &[usize]) -> Vec<Piece<'t>> {
    let (mut rest, mut n, mut pieces) = (text.as_bytes(), 0, Vec::new());
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(cuts[n % cuts.len()].min(rest.len()));
        pieces.push(whole(piece));
        (rest, n) = (more, n + 1);
    }
    pieces
}

proptest! {
    #[test]
    fn how_calls_cut_replies_does_not_matter(
        all in prop::collection::vec(reply(), 1..6),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let text = all.concat();
        let at_once = found(Side::Responses, &[whole(text.as_bytes())]);
        prop_assert_eq!(at_once.len(), all.len());
        prop_assert_eq!(found(Side::Responses, &cut(&text, &cuts)), at_once);
    }

    #[test]
    fn how_calls_cut_commands_does_not_matter(
        all in prop::collection::vec(prop::collection::vec("[a-zA-Z*$\r\n]{1,40}", 1..5), 1..6),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let string = |text: &String| format!("${}\r\n{text}\r\n", text.len());
        let command = |words: &Vec<String>| {
            format!("*{}\r\n{}", words.len(), words.iter().map(string).collect::<String>())
        };
        let text: String = all.iter().map(command).collect();
        let at_once = found(Side::Requests, &[whole(text.as_bytes())]);
        prop_assert_eq!(at_once.len(), all.len());
        // Its first call has enough to be known by.
        let mut cuts = cuts;
        cuts[0] = cuts[0].max(5);
        prop_assert_eq!(found(Side::Requests, &cut(&text, &cuts)), at_once);
    }
}
