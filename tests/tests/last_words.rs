//! What a process that dies said last, and what it left: captured from its pipe from its beginning on, or read from its
//! file. Skipped only where the kernel does not let the agent look, and then the reason is printed.

use std::fs::File;
use std::process::{Command, Stdio};

use coral_model::view::{EventRow, LogRow, Row};
use coral_tests::nginx::{Programs, free_port};
use coral_tests::{Colony, Running, may_look, until};

/// A server of HTTP that says what it does, and dies as it is asked to: `/die` with a traceback, `/hang` never
/// answers.
const SERVER: &str = r"
import http.server, socketserver, sys, os, threading, time
print('ready', flush=True)
class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        if self.path == '/hang':
            time.sleep(600)
        if self.path == '/die':
            for n in range(300):
                print('line', n)
            sys.stdout.flush()
            threading.Thread(target=die).start()
            time.sleep(600)
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
def die():
    import traceback
    try:
        raise ValueError('no stock for SKU 7')
    except ValueError:
        traceback.print_exc()
        os._exit(3)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
Server(('127.0.0.1', int(sys.argv[1])), Answer).serve_forever()
";

struct Bench {
    colony: Colony,
    programs: Programs,
}

/// Python under names of its own; `None` where the kernel does not let the agent look.
fn bench(names: &[&str]) -> Option<Bench> {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/bin/curl"]);
    let python = std::fs::canonicalize("/usr/bin/python3").unwrap();
    let mut watch = Vec::new();
    for name in names {
        std::fs::copy(&python, colony.dir().join(name)).unwrap();
        watch.push(format!("{}={name}", programs.path(name)));
    }
    let mut colony = colony.with_env("CORAL_WATCH", watch.join(","));
    colony.up();
    may_look(&colony).then_some(Bench { colony, programs })
}

impl Bench {
    fn serve(&self, name: &str, port: u16, out: Stdio, error: Stdio) -> Running {
        let mut command = Command::new(self.programs.path(name));
        command.args(["-c", SERVER, &port.to_string()]).stdin(Stdio::null());
        let server = Running::start(command.stdout(out).stderr(error));
        until(&format!("{name} to answer"), || self.ask(port, "/").map_err(|e| e.to_string()));
        server
    }

    fn ask(&self, port: u16, path: &str) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let output = Command::new("curl").args(["-s", "-m", "5", &url]).output();
        let output = output.map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    }

    /// An event of the service whose text has all of these in it.
    fn event(&self, service: &str, texts: &[&str]) -> EventRow {
        until(&format!("an event of {service} with {texts:?}"), || {
            let rows = self.colony.query(&["events", "--since", "10m"])?;
            let mut events = rows.into_iter().filter_map(|row| match row {
                Row::Event(event) if event.service.as_deref() == Some(service) => Some(*event),
                _ => None,
            });
            let all: Vec<EventRow> = events.by_ref().collect();
            let fits = |event: &&EventRow| texts.iter().all(|text| event.text.contains(text));
            all.iter().find(fits).cloned().ok_or_else(|| format!("{all:?}"))
        })
    }

    /// The lines that were kept of the service, oldest first, once `last` is among them.
    fn lines(&self, service: &str, last: &str) -> Vec<LogRow> {
        until(&format!("the last lines of {service}"), || {
            let filter = format!("service={service}");
            let words = ["logs", &filter, "--since", "10m", "--limit", "1000"];
            let rows = self.colony.query(&words)?;
            let rows = rows.into_iter().filter_map(|row| match row {
                Row::Log(row) if row.attributes.contains_key("coral.output") => Some(*row),
                _ => None,
            });
            let mut rows: Vec<LogRow> = rows.collect();
            rows.sort_by_key(|row| row.time);
            let there = rows.iter().any(|row| row.body == last);
            if there { Ok(rows) } else { Err(format!("{rows:?}")) }
        })
    }
}

#[test]
fn what_it_said_to_a_pipe_and_left_unanswered_is_kept() {
    let Some(bench) = bench(&["stock"]) else { return };
    let port = free_port();
    // It is captured from the next program on: somebody has to have been met who needs it.
    let first = bench.serve("stock", port, Stdio::piped(), Stdio::piped());
    until("output to be captured", || {
        let status = bench.colony.status()?;
        let mut senses = status.agents.iter().flat_map(|agent| &agent.senses);
        let sense = senses.find(|sense| sense.name == "output").ok_or("no sense")?;
        if sense.why.contains("sys_enter") { Ok(()) } else { Err(format!("{sense:?}")) }
    });
    drop(first);
    let mut second = bench.serve("stock", port, Stdio::piped(), Stdio::piped());
    let hang = |path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        Running::start(Command::new("curl").args(["-s", "-m", "60", &url]).stdout(Stdio::null()))
    };
    let hanging = [hang("/hang"), hang("/hang")];
    until("both to hang", || {
        let rows = bench.colony.query(&["inflight"])?;
        let mut found = rows.iter().filter_map(|row| match row {
            Row::Inflight(row) if row.service == "stock" => Some(row.inflight),
            _ => None,
        });
        if found.any(|count| count >= 2) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    let pid = second.id();
    until("its process to be followed", || {
        let rows = bench.colony.query(&["hosts"])?;
        let mut followed = rows.iter().filter_map(|row| match row {
            Row::Host(host) => Some(host.processes.iter()),
            _ => None,
        });
        let there = followed.any(|mut all| all.any(|p| p.pid == pid && p.rss_bytes.is_some()));
        if there { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    let dying = hang("/die");
    assert_eq!(second.wait().unwrap().code(), Some(3));
    drop((hanging, dying));
    let event =
        bench.event("stock", &["exited with 3", "last said “ValueError: no stock for SKU 7”"]);
    let of = |name: &str| event.attributes.get(name).map(String::as_str);
    assert_eq!((of("output.lines"), of("output.from")), (Some("200"), Some("captured")));
    assert_eq!(of("in_flight"), Some("3"), "{event:?}");
    let requests = of("in_flight.requests").unwrap();
    assert!(requests.contains("GET /hang") && requests.contains("GET /die"), "{requests}");
    let memory = of("process.memory.usage").unwrap();
    assert!(memory.split(' ').any(|bytes| bytes.parse::<u64>().is_ok_and(|b| b > 1 << 20)));

    let lines = bench.lines("stock", "ValueError: no stock for SKU 7");
    assert_eq!(lines.len(), 200, "{lines:?}");
    let bodies: Vec<&str> = lines.iter().map(|row| row.body.as_str()).collect();
    assert!(bodies.contains(&"line 299") && !bodies.contains(&"line 0"), "{bodies:?}");
    let stream = |body: &str| {
        let row = lines.iter().find(|row| row.body == body).unwrap();
        row.attributes.get("log.iostream").map(String::as_str)
    };
    assert_eq!(stream("line 299"), Some("stdout"));
    assert_eq!(stream("ValueError: no stock for SKU 7"), Some("stderr"));
}

#[test]
fn what_it_said_to_a_file_is_read_when_it_has_died() {
    let Some(bench) = bench(&["ledger"]) else { return };
    let path = bench.colony.dir().join("ledger.log");
    let file = || Stdio::from(File::options().append(true).create(true).open(&path).unwrap());
    let port = free_port();
    let mut server = bench.serve("ledger", port, file(), file());
    let asked = format!("http://127.0.0.1:{port}/die");
    let dying = Running::start(Command::new("curl").args(["-s", "-m", "60", &asked]));
    assert_eq!(server.wait().unwrap().code(), Some(3));
    drop(dying);
    let event = bench.event("ledger", &["exited with 3", "ValueError: no stock for SKU 7"]);
    let from = event.attributes.get("output.from").unwrap();
    assert!(from.ends_with("ledger.log") && !from.contains("captured"), "{event:?}");
    let lines = bench.lines("ledger", "ValueError: no stock for SKU 7");
    assert_eq!(lines.len(), 200);
}

/// It never serves, and is known by its rule alone.
#[test]
fn a_service_that_does_not_come_up_is_told_with_its_reason() {
    let Some(bench) = bench(&["till"]) else { return };
    let code = "import sys,time\nprint('reading the price list', flush=True)\n\
                time.sleep(0.3)\nsys.exit('no price list')";
    let fail = || {
        let mut command = Command::new(bench.programs.path("till"));
        command.args(["-c", code]).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert_eq!(Running::start(&mut command).wait().unwrap().code(), Some(1));
    };
    // The first may be met too late to be captured from its beginning.
    until("it to be told why", || {
        fail();
        let rows = bench.colony.query(&["events", "--since", "10m"])?;
        let told = rows.iter().any(|row| match row {
            Row::Event(event) => {
                event.service.as_deref() == Some("till")
                    && event.text.starts_with("till did not come up")
                    && event.text.ends_with("exited with 1 · last said “no price list”")
            }
            _ => false,
        });
        if told { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    let lines = bench.lines("till", "no price list");
    assert!(lines.iter().any(|row| row.body == "reading the price list"), "{lines:?}");
}
