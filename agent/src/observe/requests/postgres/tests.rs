//! Recorded connections, played again.

use super::super::exchange::recorded;
use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

fn first(code: u32, rest: &str) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), rest.as_bytes()].concat()
}

/// What a client says: a letter and its words each, `|` between them. `0` is a zero.
fn ask(said: &str) -> Vec<u8> {
    let one = |said: &str| {
        let (kind, words) = said.split_once(' ').unwrap_or((said, ""));
        let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
        let zeros = |text: String| message(kind.as_bytes()[0], text.replace('~', "\0").as_bytes());
        match kind {
            "start" => first(3 << 16, "user\0me\0\0"),
            "tls" => first(80_877_103, ""),
            "cancel" => first(80_877_102, "12345678"),
            "Q" => zeros(format!("{words}~")),
            "P" => zeros(format!("{name}~{rest}~~~").replacen("-~", "~", 1)),
            "B" => zeros(format!("~{name}~~~~~~~").replacen("-~", "~", 1)),
            "E" => zeros("~~~~~".to_owned()),
            "D" => zeros("P~".to_owned()),
            "C" => zeros(format!("S{name}~")),
            _ => zeros(words.to_owned()),
        }
    };
    said.split('|').flat_map(|said| one(said.trim())).collect()
}

/// What a server answers, likewise.
fn answer(said: &str) -> Vec<u8> {
    let one = |said: &str| {
        let (kind, words) = said.split_once(' ').unwrap_or((said, ""));
        let body = match kind {
            "E" => format!("SERROR\0VERROR\0C{words}\0Msecret\0\0"),
            "C" => format!("{words}\0"),
            "Z" => "I".to_owned(),
            "T" | "D" => "\0\0".to_owned(),
            _ => words.to_owned(),
        };
        message(kind.as_bytes()[0], body.as_bytes())
    };
    said.split('|').flat_map(|said| one(said.trim())).collect()
}

fn summary(told: &[Told]) -> Vec<String> {
    recorded::summary(told, |answer| match answer {
        Answer::Done => "ok".to_owned(),
        Answer::Failed(state) => (*state).to_owned(),
        _ => "none".to_owned(),
    })
}

/// Plays what was said, `>` by the client and `<` by the server, at both ends.
fn both(said: &[(&str, &str)]) -> Vec<String> {
    let bytes = |kind: &str, said: &str| match (said, kind.starts_with('>')) {
        ("", _) => Vec::new(),
        (_, true) => ask(said),
        (_, false) => answer(said),
    };
    let record: Vec<_> = said.iter().map(|(kind, said)| (*kind, bytes(kind, said))).collect();
    both_bytes(&record)
}

fn both_bytes(record: &[(&str, Vec<u8>)]) -> Vec<String> {
    recorded::both(|role| Connection::new(recorded::requests(role)), record, summary)
}

#[test]
fn simple_queries_are_requests_from_query_to_ready() {
    let told = both(&[
        (">", "start"),
        ("<", "R AUTH"),
        (">", "p secret"),
        ("<", "R OKAY|S a|K 12345678|Z"),
        (">", "Q SELECT * FROM orders WHERE id = 7"),
        ("<", "T|D|D"),
        ("<", "D|C SELECT 3|Z"),
        (">", "Q BEGIN"),
        ("<", "C BEGIN|Z"),
        (">", "Q INSERT INTO t VALUES ('secret')"),
        ("<", "N notice|A note|E 23505|Z"),
        (">", "Q "),
        ("<", "I|Z"),
        (">", "Q SELECT 1; SELECT 1/0; SELECT 2"),
        ("<", "T|D|C SELECT 1|T|E 22012|Z"),
        (">", "X"),
        ("<ended", ""),
    ]);
    let want = [
        "SELECT orders ok 5-7",
        "BEGIN ok 8-9",
        "INSERT t 23505 10-11",
        "EMPTY ok 12-13",
        "SELECT; … 22012 14-15",
    ];
    assert_eq!(told, want);
}

#[test]
fn each_execute_is_a_request() {
    let told = both(&[
        (">", "P - SELECT a FROM t|B -|D|E|S"),
        ("<", "1|2|T|D|C SELECT 1|Z"),
        // Prepared once, executed often; several in one batch, two batches at once.
        (">", "P s1 UPDATE t SET a = $1|S"),
        ("<", "1|Z"),
        (">", "B s1|E|B s1|E|S|B s1|E|S"),
        ("<", "2|C UPDATE 1|2|C UPDATE 1|Z"),
        ("<", "2|s|Z"),
        // With flushes in place of syncs.
        (">", "P s2 COMMIT|H"),
        ("<", "1"),
        (">", "B s2|H"),
        ("<", "2"),
        (">", "E|C s1|S"),
        ("<", "C COMMIT|3|Z"),
        // Prepared before anybody looked: the server says what it was.
        (">", "B older|E|B older|E|S"),
        ("<", "2|C INSERT 0 1|2|E 22012|Z"),
    ]);
    let want = [
        "SELECT t ok 1-2",
        "UPDATE t ok 5-6",
        "UPDATE t ok 5-6",
        "UPDATE t ok 5-7",
        "COMMIT ok 12-13",
        "INSERT ok 14-15",
        "OTHER 22012 14-15",
    ];
    assert_eq!(told, want);
}

#[test]
fn what_an_error_keeps_from_being_executed_has_failed_too() {
    let told = both(&[
        (">", "P - INSERT INTO a VALUES ($1)|B -|E|B -|E|B -|E|S|P - SELECT b FROM b|B -|E|S"),
        ("<", "1|2|C INSERT 0 1|2|E 23505|Z"),
        ("<", "1|2|C SELECT 1|Z"),
        // While it is prepared, and then executed in the same batch, or not at all.
        (">", "P - SELEC secret|B -|D|E|S"),
        ("<", "E 42601|Z"),
        (">", "P x SELECT * FROM nowhere|D|S"),
        ("<", "E 42P01|Z"),
        // Before the rest of the batch is sent.
        (">", "P - SELECT * FROM nowhere|H"),
        ("<", "E 42P01"),
        (">", "B -|E|S"),
        ("<", "Z"),
        // What is put off until the end of the batch.
        (">", "P - UPDATE a SET b = 1|B -|E|S"),
        ("<", "1|2|C UPDATE 1|E 23503|Z"),
        (">", "Q SELECT a FROM a"),
        ("<", "T|C SELECT 0|Z"),
    ]);
    let want = [
        "INSERT a ok 1-2",
        "INSERT a 23505 1-2",
        "INSERT a skipped 1-2",
        "SELECT b ok 1-3",
        "OTHER 42601 4-5",
        "SELECT nowhere 42P01 6-7",
        "SELECT nowhere 42P01 8-9",
        "SELECT nowhere skipped 10-10",
        "UPDATE a ok 12-13",
        "SYNC 23503 12-13",
        "SELECT a ok 14-15",
    ];
    assert_eq!(told, want);
}

#[test]
fn copies_are_one_request_each() {
    let told = both(&[
        (">", "Q COPY t FROM STDIN"),
        ("<", "G xx"),
        (">", "d row|d row"),
        (">", "d row|c"),
        ("<", "C COPY 3|Z"),
        (">", "Q COPY t TO STDOUT"),
        ("<", "H xx|d row|d row|c|C COPY 2|Z"),
        // A Sync that comes too early is passed over.
        (">", "P - COPY t FROM STDIN|B -|E|S"),
        ("<", "1|2|G xx"),
        (">", "d row|S|c|S"),
        ("<", "C COPY 1|Z"),
        (">", "Q COPY t FROM STDIN"),
        ("<", "G xx"),
        (">", "d row|f no"),
        ("<", "E 57014|Z"),
        (">", "Q SELECT a FROM t"),
        ("<", "T|C SELECT 0|Z"),
    ]);
    let want = [
        "COPY t ok 1-5",
        "COPY t ok 6-7",
        "COPY t ok 8-11",
        "COPY t 57014 12-15",
        "SELECT t ok 16-17",
    ];
    assert_eq!(told, want);
}

#[test]
fn who_is_turned_away_has_failed_to_connect() {
    for state in ["28P01", "53300"] {
        let told = both(&[(">", "start"), ("<", &format!("E {state}")), ("<ended", "")]);
        assert_eq!(told, [format!("CONNECT {state} 1-2")]);
    }
    // Whoever only asks whether there is somebody has not failed.
    assert!(both(&[(">", "start"), ("<", "R AUTH"), ("<ended", "")]).is_empty());
    // The server goes, and says why to nobody.
    let told = both(&[(">", "Q COMMIT"), ("<", "C COMMIT|Z"), ("<", "E 57P01"), ("<ended", "")]);
    assert_eq!(told, ["COMMIT ok 1-2"]);
    // While somebody waits.
    let told = both(&[(">", "Q SELECT a FROM t"), ("<", "E 57P01"), ("<ended", "")]);
    assert_eq!(told, ["SELECT t 57P01 1-3"]);
}

#[test]
fn what_goes_on_encrypted_is_left_and_said() {
    let byte = |byte: u8| ("<", vec![byte]);
    let query = || vec![(">", ask("Q COMMIT")), ("<", answer("C COMMIT|Z"))];
    let tls = [vec![(">", ask("tls")), byte(b'S')], query()].concat();
    assert_eq!(both_bytes(&tls), ["encrypted"]);
    let plain = [
        vec![(">", ask("tls")), byte(b'N'), (">", ask("start")), ("<", answer("R OKAY|Z"))],
        query(),
    ];
    assert_eq!(both_bytes(&plain.concat()), ["COMMIT ok 5-6"]);
    assert!(both_bytes(&[vec![(">", ask("cancel"))], query()].concat()).is_empty());
}

#[test]
fn messages_may_come_in_any_pieces() {
    let asked = ask("P - SELECT a FROM t|B -|D|E|S|Q COMMIT");
    let answered = answer("1|2|T|D|D|C SELECT 2|Z|C COMMIT|Z");
    for size in [1, 3, 5, 8] {
        // The first call has to say what begins.
        let (head, rest) = asked.split_at(40);
        let mut record = vec![(">", head.to_vec())];
        record.extend(rest.chunks(size).map(|bytes| (">", bytes.to_vec())));
        let (head, rest) = answered.split_at(12);
        record.push(("<", head.to_vec()));
        record.extend(rest.chunks(size).map(|bytes| ("<", bytes.to_vec())));
        let told = both_bytes(&record);
        assert!(
            told[0].starts_with("SELECT t ok 1-") && told[1].starts_with("COMMIT ok "),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }
}

#[test]
fn rows_and_long_messages_are_skipped() {
    // Rows are told as one, of which only the head is known.
    let rows = [answer("T"), b"D\0\x01\x86\xa0".to_vec()].concat();
    let insert = ask(&format!("Q INSERT INTO t VALUES ('{}')", "x".repeat(9_000)));
    let told = both_bytes(&[
        (">", ask("Q SELECT a FROM t")),
        ("<50000", rows),
        ("<49996", Vec::new()),
        ("<", answer("C SELECT 9|Z")),
        (">6978", insert[..2_053].to_vec()),
        ("<", answer("C INSERT 0 1|Z")),
        (">", ask("Q COMMIT")),
        ("<", answer("C COMMIT|Z")),
    ]);
    assert_eq!(told, ["SELECT t ok 1-4", "INSERT t ok 5-6", "COMMIT ok 7-8"]);
}

#[test]
fn after_a_loss_nothing_is_guessed_until_the_server_is_ready() {
    // A question and its answer are lost among others.
    let told = both(&[
        (">", "Q SELECT a FROM a"),
        ("<", "T|C SELECT 0|Z"),
        (">", "Q SELECT b FROM b"),
        (">missed", "Q SELECT c FROM c"),
        ("<", "T|C SELECT 0|Z|T|C SELECT 0|Z"),
        (">", "Q SELECT d FROM d"),
        ("<", "T|C SELECT 0|Z"),
    ]);
    assert_eq!(told, ["SELECT a ok 1-2", "unknown 2", "SELECT d ok 6-7"]);
    // Answers alone.
    let told = both(&[
        (">", "Q SELECT a FROM a"),
        ("<", "T|C SELECT 0|Z"),
        (">", "P - SELECT b FROM b|B -|E|S"),
        ("<missed", "1|2|D|D"),
        (">", "B -|E|S"),
        ("<", "C SELECT 2|Z|2|C SELECT 2|Z"),
        (">", "P - SELECT d FROM d|B -|E|S"),
        ("<", "1|2|C SELECT 2|Z"),
    ]);
    assert_eq!(told, ["SELECT a ok 1-2", "unknown 1", "unknown 1", "SELECT d ok 7-8"]);
    // Older than the agent, and an answer comes first.
    let told =
        both(&[("<", "D|C SELECT 7|Z"), (">", "Q SELECT a FROM a"), ("<", "T|C SELECT 0|Z")]);
    assert_eq!(told, ["unknown 1"]);
}

#[test]
fn requests_that_wait_are_counted_and_bounded() {
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let one = ask("P - SELECT a FROM t|B -|E|B -|E|S");
    connection.moved(Way::Received, 7, &one, one.len() as u64, &mut out);
    assert_eq!(connection.waiting(), Some(Waits::since(2, 7)));
    connection.ending(9, &mut out);
    assert_eq!(connection.waiting(), None);
    assert_eq!(summary(&out), ["SELECT t none 7-9"; 2]);
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let many = ask("S").repeat(PIPELINED - 6);
    connection.moved(Way::Received, 1, &one, one.len() as u64, &mut out);
    let answered = answer("1");
    connection.moved(Way::Sent, 2, &answered, answered.len() as u64, &mut out);
    connection.moved(Way::Received, 3, &many, many.len() as u64, &mut out);
    assert_eq!((connection.waiting(), out.len()), (Some(Waits::since(2, 1)), 0));
    let more = ask("S|S|Q COMMIT");
    connection.moved(Way::Received, 4, &more, more.len() as u64, &mut out);
    assert_eq!(connection.waiting(), None);
    assert_eq!(summary(&out), ["unknown 2", "unknown 1"]);
}

#[test]
fn a_connection_is_held_from_the_beginning_of_a_transaction_to_its_end() {
    let mut connection = Connection::new(Way::Sent);
    let mut out = Vec::new();
    let mut held = Vec::new();
    for (asked, tag, state) in [
        ("BEGIN", "BEGIN", b'T'),
        ("SELECT 1", "SELECT 1", b'T'),
        ("x", "", b'E'),
        ("ROLLBACK", "ROLLBACK", b'I'),
    ] {
        let ask = message(b'Q', &[asked.as_bytes(), b"\0"].concat());
        connection.moved(Way::Sent, 1, &ask, ask.len() as u64, &mut out);
        let done = match tag {
            "" => message(b'E', b"C42601\0\0"),
            tag => message(b'C', &[tag.as_bytes(), b"\0"].concat()),
        };
        let answer = [done, message(b'Z', &[state])].concat();
        connection.moved(Way::Received, 2, &answer, answer.len() as u64, &mut out);
        held.push((connection.is_held(), connection.waiting()));
    }
    assert_eq!(held, [(true, None), (true, None), (true, None), (false, None)]);
}
