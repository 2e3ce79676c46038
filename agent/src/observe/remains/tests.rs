use super::*;
use coral_bpf_types::what;
use std::process::{Child, Command, Stdio};

fn chunk(pid: u32, start_ns: u64) -> Chunk {
    let process = pid + 1_000;
    let (socket, local_port, at_ns) = (start_ns, 2, 9);
    Chunk { what: what::SAID, pid, process, socket, local_port, at_ns, ..Chunk::default() }
}

fn say(remains: &Remains, pid: u32, start_ns: u64, text: &str) -> Wants {
    remains.said(&mut Files::below("/"), &chunk(pid, start_ns), text.as_bytes(), false)
}

fn ended(pid: u32, at_ns: u64) -> Ended {
    let (start_ns, name, parent) = (0, String::new(), None);
    Ended { pid, start_ns, at_ns, name, parent, code: Some(1), signal: None, by: None, core: false }
}

fn child(out: Stdio, error: Stdio) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").stdout(out).stderr(error).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A process of a service that writes to a pipe, as if it had been met.
fn meet(remains: &Remains, pid: u32, start_ns: u64) {
    let sinks = [Some(Sink::Unreadable), Some(Sink::Unreadable)];
    let (start_ticks, output) = (ticks(start_ns), Output::default());
    let mut inner = remains.lock();
    remains.make_room(&mut inner);
    inner.insert(pid, Process { start_ticks, sinks, output, gone_ns: None });
}

fn headline(remains: &Remains, pid: u32, start_ns: u64) -> Option<String> {
    remains.of(pid, ticks(start_ns), &ended(pid, 0))?.headline(false)
}

/// No such process: pids do not go so far.
const GONE: u32 = 1 << 30;

#[test]
fn what_a_process_said_is_its_own_and_not_of_who_had_its_number() {
    let remains = Remains::default();
    meet(&remains, GONE, 7 * SECOND);
    assert_eq!(say(&remains, GONE, 7 * SECOND, "boom\n"), Wants::More);
    assert_eq!(headline(&remains, GONE, 7 * SECOND).as_deref(), Some("“boom”"));
    assert_eq!(headline(&remains, GONE, 70 * SECOND), None);
    assert_eq!(say(&remains, GONE, 70 * SECOND, "not mine\n"), Wants::Nothing);
    remains.clear();
    assert_eq!(headline(&remains, GONE, 7 * SECOND), None, "the eyes were closed");
    say(&remains, GONE, 7 * SECOND, "boom\n");
    remains.began(GONE);
    assert_eq!(headline(&remains, GONE, 7 * SECOND), None, "another program by now");
}

#[test]
fn nothing_is_kept_of_who_is_no_service_until_it_is_one() {
    let remains = Remains::default();
    let pipes = child(Stdio::piped(), Stdio::piped());
    let pid = pipes.id();
    let said =
        |worker| remains.said(&mut Files::below("/"), &chunk(pid, 3 * SECOND), b"x\n", worker);
    assert_eq!(said(false), Wants::Nothing);
    assert!(remains.wanted_again().is_empty());
    remains.meet(&mut Files::below("/"), pid, ticks(3 * SECOND), None, 1);
    assert_eq!((remains.wanted_again(), remains.wanted_again()), (vec![pid + 1_000], vec![]));
    assert_eq!(said(false), Wants::More);
    remains.began(pid);
    // Nobody met it, but a service forked it.
    assert_eq!(said(true), Wants::More);
    assert_eq!(headline(&remains, pid, 3 * SECOND).as_deref(), Some("“x”"));
    end(pipes);
}

#[test]
fn what_can_be_read_elsewhere_is_not_captured() {
    let remains = Remains::default();
    let quiet = child(Stdio::null(), Stdio::null());
    let half = child(Stdio::piped(), Stdio::null());
    for child in [&quiet, &half] {
        remains.meet(&mut Files::below("/"), child.id(), 1, None, 1);
    }
    let start = SECOND / 50;
    assert_eq!(say(&remains, quiet.id(), start, "x\n"), Wants::Nothing);
    // Its standard error goes nowhere, its standard output to a pipe.
    assert_eq!(say(&remains, half.id(), start, "x\n"), Wants::More);
    assert_eq!(headline(&remains, half.id(), start), None);
    let out = Chunk { local_port: 1, ..chunk(half.id(), start) };
    assert_eq!(remains.said(&mut Files::below("/"), &out, b"y\n", false), Wants::More);
    assert_eq!(headline(&remains, half.id(), start).as_deref(), Some("“y”"));
    end(quiet);
    end(half);
}

#[test]
fn it_is_captured_while_somebody_needs_it_and_a_while_longer() {
    let remains = Remains::default();
    let child = child(Stdio::piped(), Stdio::piped());
    assert!(!remains.wants_capture());
    remains.meet(&mut Files::below("/"), child.id(), 3, None, 1);
    assert!(remains.wants_capture());
    remains.sweep(WANTED, |pid, start| (pid, start) == (child.id(), 3));
    remains.sweep(2 * WANTED - 1, |_, _| false);
    assert!(remains.wants_capture(), "it may come back");
    remains.sweep(2 * WANTED, |_, _| false);
    assert!(!remains.wants_capture());
    remains.sweep(2 * WANTED - 1 + KEPT, |_, _| false);
    assert!(remains.lock().processes.is_empty(), "it is over");
    let never = Remains::new(Capture::Files);
    never.meet(&mut Files::below("/"), child.id(), 3, None, 1);
    assert!(!never.wants_capture());
    end(child);
}

#[test]
fn requests_that_ended_with_it_are_told_the_longest_first() {
    let remains = Remains::default();
    let at = 100 * SECOND;
    remains.unanswered(GONE, "GET /old", 1, at - 5 * SECOND);
    remains.unanswered(GONE, "GET /short", at - 1_000, at);
    remains.unanswered(GONE, "GET /long", at - SECOND, at);
    remains.unanswered(GONE + 1, "GET /other", at - SECOND, at);
    let words = remains.of(GONE, 0, &ended(GONE, at)).unwrap();
    let names: Vec<&str> = words.unanswered.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["GET /long", "GET /short"]);
    assert_eq!(remains.of(GONE, 0, &ended(GONE, at + 9 * SECOND)), None);
}

#[test]
fn what_is_kept_is_bounded_and_those_that_are_gone_go_first() {
    let remains = Remains::default();
    let long = "y".repeat(1_000) + "\n";
    meet(&remains, GONE - 1, SECOND);
    say(&remains, GONE - 1, SECOND, "still there\n");
    for n in 0..2_000_u32 {
        meet(&remains, GONE + n, SECOND);
        let chunk = Chunk { at_ns: n.into(), ..chunk(GONE + n, SECOND) };
        for _ in 0..10 {
            remains.said(&mut Files::below("/"), &chunk, long.as_bytes(), false);
        }
        remains.lock().processes.get_mut(&(GONE + n)).unwrap().gone_ns = Some(n.into());
    }
    let inner = remains.lock();
    let bytes: usize = inner.processes.values().map(|p| p.output.bytes()).sum();
    assert_eq!(bytes, inner.bytes);
    assert!(bytes <= BYTES && inner.processes.len() <= PROCESSES, "{bytes}");
    assert!(inner.processes.contains_key(&(GONE + 1_999)));
    assert!(inner.processes.contains_key(&(GONE - 1)));
    assert_eq!(remains.forgotten(), 2_001 - inner.processes.len() as u64);
}
