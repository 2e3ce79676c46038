//! Recorded connections, played again.

use super::super::exchange::recorded;
use super::*;

fn summary(told: &[Told]) -> Vec<String> {
    recorded::summary(told, |answer| match answer {
        Answer::Done => "ok".to_owned(),
        Answer::Failed(word) => (*word).to_owned(),
        Answer::Said(word) => format!("ok with {word}"),
        _ => "none".to_owned(),
    })
}

fn both(record: &[(&str, &str)]) -> Vec<String> {
    recorded::both(
        |role| Connection::new(recorded::requests(role)),
        &recorded::text(record),
        summary,
    )
}

fn command(words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let strings = words.iter().map(|w| format!("${}\n{w}\n", w.len()));
    format!("*{}\n{}", words.len(), strings.collect::<String>())
}

/// Commands each answered with the text behind it, one after the other.
fn in_turn(said: &[(&str, &str)]) -> Vec<String> {
    let commands: Vec<String> = said.iter().map(|(words, _)| command(words)).collect();
    let record: Vec<(&str, &str)> = commands
        .iter()
        .zip(said)
        .flat_map(|(command, (_, reply))| [(">", command.as_str()), ("<", *reply)])
        .collect();
    both(&record)
}

#[test]
fn replies_answer_commands_in_their_order() {
    let pipelined = [command("SET k v"), command("get k"), command("LPUSH k x")].concat();
    let told = both(&[
        (">", &pipelined),
        ("<", "+OK\n$1\n"),
        ("<", "v\n-WRONGTYPE Operation against a key holding the wrong kind of value\n"),
        (">", "ping\nINFO all\n"),
        ("<", "+PONG\n$3\nabc\n"),
    ]);
    let want = ["SET ok 1-2", "GET ok 1-3", "LPUSH WRONGTYPE 1-3", "PING ok 4-5", "INFO ok 4-5"];
    assert_eq!(told, want);
}

#[test]
fn commands_are_named_and_nothing_else_of_them() {
    let told = in_turn(&[
        ("HELLO 3", "%1\n+server\n+redis\n"),
        ("client list", "$2\nid\n"),
        ("CONFIG GET save", "*2\n$4\nsave\n$0\n\n"),
        ("secret.command secret", "-ERR unknown command 'secret.command'\n"),
        ("GET secret", "-secret secret\n"),
    ]);
    let want = ["HELLO ok 1-2", "CLIENT LIST ok 3-4", "CONFIG GET ok 5-6", "OTHER ERR 7-8"];
    assert_eq!(told[..4], want);
    assert_eq!(told[4], "GET OTHER 9-10");
}

#[test]
fn a_library_that_introduces_itself_in_vain_has_not_failed() {
    let told = in_turn(&[
        ("CLIENT SETINFO lib-name x", "-ERR unknown subcommand 'setinfo'\n"),
        ("CLIENT SETNAME x", "-ERR unknown subcommand 'setname'\n"),
    ]);
    assert_eq!(told, ["CLIENT SETINFO ok with ERR 1-2", "CLIENT SETNAME ERR 3-4"]);
}

#[test]
fn a_command_and_its_reply_may_come_in_any_pieces() {
    let told = both(&[
        (">", "*2\n$3\nG"),
        (">", "ET\n$5\nhel"),
        (">", "lo\n"),
        ("<", "$"),
        ("<", "5\nwor"),
        ("<", "ld\n"),
    ]);
    assert_eq!(told, ["GET ok 1-6"]);
}

#[test]
fn long_values_are_skipped() {
    let set = "*3\n$3\nSET\n$1\nk\n$100000\n";
    let told = both(&[
        (">50000", set),
        (">50002", ""),
        ("<", "+OK\n"),
        (">", &command("GET k")),
        ("<16000", "$100000\n"),
        ("<84002", ""),
        (">", &command("PING")),
        ("<", "+PONG\n"),
    ]);
    assert_eq!(told, ["SET ok 1-3", "GET ok 4-6", "PING ok 7-8"]);
}

#[test]
fn transactions_and_waiting() {
    let told = in_turn(&[
        ("MULTI", "+OK\n"),
        ("INCR k", "+QUEUED\n"),
        ("EXEC", "*2\n:1\n-ERR inner\n"),
        ("BLPOP list 0", "*2\n$4\nlist\n$1\nx\n"),
    ]);
    assert_eq!(told, ["MULTI ok 1-2", "INCR ok 3-4", "EXEC ok 5-6", "BLPOP ok 8-8"]);
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let ask = command("BLPOP list 0").replace('\n', "\r\n");
    connection.moved(Way::Received, 7, ask.as_bytes(), ask.len() as u64, &mut out);
    assert_eq!((connection.waiting(), out.len()), (None, 0), "it is there to wait");
    let ask = command("GET a").replace('\n', "\r\n");
    connection.moved(Way::Received, 8, ask.as_bytes(), ask.len() as u64, &mut out);
    assert_eq!(
        (connection.waiting(), out.len()),
        (Some(Waits::since(1, 8)), 0),
        "behind it something hangs"
    );
    connection.ending(9, &mut out);
    assert_eq!((connection.waiting(), summary(&out)), (None, vec!["GET none 8-9".to_owned()]));
}

#[test]
fn what_a_subscriber_is_sent_is_no_reply() {
    let subscribed = "*3\n$9\nsubscribe\n$1\na\n:1\n*3\n$9\nsubscribe\n$1\nb\n:2\n";
    let message = "*3\n$7\nmessage\n$1\na\n$2\nhi\n";
    let resp2 = both(&[
        (">", &command("SUBSCRIBE a b")),
        ("<", subscribed),
        ("<", message),
        (">", &command("PING")),
        ("<", &format!("{message}*2\n$4\npong\n$0\n\n")),
        (">", &command("UNSUBSCRIBE")),
        ("<", "*3\n$11\nunsubscribe\n$1\na\n:1\n*3\n$11\nunsubscribe\n$1\nb\n:0\n"),
        (">", &command("LRANGE l 0 1")),
        ("<", message),
    ]);
    let want = ["SUBSCRIBE ok 1-2", "PING ok 4-5", "UNSUBSCRIBE ok 6-7", "LRANGE ok 8-9"];
    assert_eq!(resp2, want);
    let push = message.replacen('*', ">", 1);
    let resp3 = both(&[
        (">", &command("SUBSCRIBE a b")),
        ("<", &subscribed.replace('*', ">")),
        (">", &command("GET k")),
        ("<", &format!("{push}$1\nv\n{push}")),
        ("<", ">2\n$10\ninvalidate\n*1\n$1\nk\n"),
        (">", &command("GET k")),
        ("<", "_\n"),
    ]);
    assert_eq!(resp3, ["SUBSCRIBE ok 1-2", "GET ok 3-4", "GET ok 6-7"]);
}

#[test]
fn who_leaves_commands_and_replies_is_left_alone() {
    let told = both(&[
        (">", &command("MONITOR")),
        ("<", "+OK\n+1700000000.1 [0 127.0.0.1:1] \"GET\" \"k\"\n"),
        (">", "anything"),
        ("<", "at all"),
    ]);
    assert_eq!(told, ["MONITOR ok 1-2"]);
    let told = both(&[
        (">", &command("PING")),
        ("<", "+PONG\n"),
        (">", &command("PSYNC ? -1")),
        ("<", "+FULLRESYNC abc 0\n$176\nREDIS0011"),
    ]);
    assert_eq!(told, ["PING ok 1-2", "PSYNC ok 3-4"]);
}

#[test]
fn commands_without_replies_are_unknown() {
    let off = [command("PING"), command("CLIENT REPLY OFF"), command("SET k v")].concat();
    let told = both(&[
        (">", &off),
        ("<", "+PONG\n"),
        (">", &command("CLIENT REPLY ON")),
        ("<", "+OK\n"),
        (">", &[command("CLIENT REPLY SKIP"), command("SET k v"), command("GET k")].concat()),
        ("<", "$1\nv\n"),
    ]);
    let want = [
        "unknown 1",
        "unknown 1",
        "PING ok 1-2",
        "CLIENT REPLY ok 3-4",
        "unknown 1",
        "unknown 1",
        "GET ok 5-6",
    ];
    assert_eq!(told, want);
}

#[test]
fn after_a_loss_nothing_is_guessed_until_a_new_turn() {
    let (get, set) = (command("GET k"), command("SET k v"));
    // A command and its reply are lost among others.
    let told = both(&[
        (">", &get),
        ("<", "$1\nv\n"),
        (">", &get),
        (">missed", &set),
        (">", &get),
        ("<", "$1\nv\n+OK\n$1\nv\n"),
        (">", &set),
        ("<", "+OK\n"),
    ]);
    assert_eq!(told, ["GET ok 1-2", "unknown 2", "unknown 1", "SET ok 7-8"]);
    // Replies alone.
    let told = both(&[
        (">", &get),
        ("<", "$1\nv\n"),
        (">", &[get.clone(), get.clone()].concat()),
        ("<missed", "$1\nv\n$1\nv\n"),
        (">", &set),
        ("<", "+OK\n"),
    ]);
    assert_eq!(told, ["GET ok 1-2", "unknown 2", "SET ok 5-6"]);
    // The connection is older than the agent, and a reply comes first.
    let told = both(&[("<", "$1\nv\n"), (">", &set), ("<", "+OK\n")]);
    assert_eq!(told, ["unknown 1", "SET ok 2-3"]);
}

#[test]
fn commands_that_wait_are_bounded() {
    let mut connection = Connection::new(Way::Received);
    let mut out = Vec::new();
    let one = "PING\r\n".repeat(PIPELINED);
    connection.moved(Way::Received, 1, one.as_bytes(), one.len() as u64, &mut out);
    assert_eq!(connection.waiting(), Some(Waits::since(PIPELINED as u64, 1)));
    connection.moved(Way::Sent, 2, b"+PONG\r\n", 7, &mut out);
    connection.moved(Way::Received, 3, b"PING\r\nPING\r\n", 12, &mut out);
    assert_eq!(connection.waiting(), None);
    assert_eq!(out[1..], [Told::Unknown(PIPELINED as u64 + 1)]);
}
