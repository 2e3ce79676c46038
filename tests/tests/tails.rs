//! Log files and journals that a person named: each line once, through rotation and killed agents;
//! services, levels and stack traces as they are.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coral_model::view::{LogRow, Row};
use coral_tests::{Colony, until};

fn configure(colony: &Colony, text: &str) {
    let dir = colony.dir().join("config/coral");
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join("agent.toml"), text).expect("a file");
}

fn logs(colony: &Colony, filter: &str) -> Result<Vec<LogRow>, String> {
    let rows = colony.query(&["logs", filter, "--since", "1h", "--limit", "10000"])?;
    let log = |row| if let Row::Log(row) = row { Some(*row) } else { None };
    Ok(rows.into_iter().filter_map(log).collect())
}

fn sense(colony: &Colony, name: &str) -> Result<String, String> {
    let status = colony.status()?;
    let agent = status.agents.first().ok_or("no agent")?;
    let sense = agent.senses.iter().find(|s| s.name == name);
    sense.map(|s| s.why.clone()).ok_or_else(|| format!("{:?}", agent.senses))
}

/// A service that writes numbered lines and is rotated while it does.
struct Writer {
    path: PathBuf,
    file: File,
    next: u32,
    rotated: u32,
}

impl Writer {
    fn new(path: PathBuf) -> Self {
        let file = Self::open(&path);
        Self { path, file, next: 0, rotated: 0 }
    }

    fn open(path: &Path) -> File {
        OpenOptions::new().append(true).create(true).open(path).expect("a log file")
    }

    /// Lines in uneven writes, some of which end within a line.
    fn write(&mut self, lines: u32) {
        let mut text = String::new();
        for _ in 0..lines {
            text.push_str(&format!("INFO request {} served\n", self.next));
            self.next += 1;
        }
        let (a, b) = text.as_bytes().split_at(text.len() / 3);
        self.file.write_all(a).expect("written");
        self.file.write_all(b).expect("written");
    }

    /// logrotate's `create`: renamed, and the writer is told a little later.
    fn rename(&mut self) {
        self.rotated += 1;
        let old = self.path.with_extension(format!("log.{}", self.rotated));
        fs::rename(&self.path, old).expect("renamed");
        self.write(7);
        self.file = Self::open(&self.path);
    }

    /// logrotate's `copytruncate`; nobody writes in between, since that would be lost by the method.
    fn copy_and_truncate(&mut self) {
        self.rotated += 1;
        let copy = self.path.with_extension(format!("log.{}", self.rotated));
        _ = fs::copy(&self.path, copy).expect("copied");
        self.file.set_len(0).expect("emptied");
    }
}

fn numbers(rows: &[LogRow]) -> BTreeMap<u32, u32> {
    let mut seen = BTreeMap::new();
    for row in rows {
        let number = row.body.split(' ').nth(2).and_then(|n| n.parse().ok());
        *seen.entry(number.unwrap_or_else(|| panic!("{:?}", row.body))).or_default() += 1;
    }
    seen
}

#[test]
fn every_line_comes_once_through_rotation_and_a_killed_agent() {
    let colony = Colony::start();
    let dir = colony.dir().join("app");
    fs::create_dir(&dir).unwrap();
    configure(
        &colony,
        &format!("[[logs]]\nservice = \"shop\"\nfiles = [\"{}/*.log*\"]\n", dir.display()),
    );
    _ = until("the source to be followed", || sense(&colony, "logs/shop"));
    until("its first look", || {
        let places = find(colony.dir(), "logs.json").ok_or("no places yet")?;
        let text = fs::read_to_string(places).map_err(|e| e.to_string())?;
        if text.contains("\"sources\":[\"") { Ok(()) } else { Err(text) }
    });
    let mut writer = Writer::new(dir.join("shop.log"));
    for round in 0..12 {
        for _ in 0..20 {
            writer.write(10);
        }
        match round % 4 {
            0 => writer.rename(),
            2 => writer.copy_and_truncate(),
            _ => {}
        }
        if round == 4 || round == 9 {
            let pid = colony.status().unwrap().agents[0].pid;
            Colony::kill(pid);
        }
        if round == 6 {
            // In the middle everything must have been noticed: rotation faster than one look would
            // be a test of the file system alone.
            until("what was written so far", || {
                let seen = numbers(&logs(&colony, "service=shop")?);
                if seen.len() == writer.next as usize {
                    Ok(())
                } else {
                    Err(format!("{}", seen.len()))
                }
            });
        }
    }
    let wanted = writer.next;
    let seen = until("every line", || {
        let seen = numbers(&logs(&colony, "service=shop")?);
        if seen.len() == wanted as usize {
            Ok(seen)
        } else {
            let missing: Vec<_> = (0..wanted).filter(|n| !seen.contains_key(n)).take(5).collect();
            Err(format!(
                "{} of {wanted}; missing {missing:?}; {:?}",
                seen.len(),
                sense(&colony, "logs/shop")
            ))
        }
    });
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|n| n == name) {
            return Some(path);
        }
    }
    None
}

#[test]
fn containers_levels_and_stack_traces_are_what_they_are() {
    let colony = Colony::start();
    let pods = colony.dir().join("pods/shop_cart-7f_123-4/web");
    let docker = colony.dir().join("docker").join("ab".repeat(32));
    for dir in [&pods, &docker] {
        fs::create_dir_all(dir).unwrap();
    }
    let now = jiff::Timestamp::now();
    let cri = format!(
        "{now} stdout P first half, \n{now} stdout F second half\n\
         {now} stderr F ERROR boom\n{now} stderr F java.lang.IllegalStateException: no\n\
         {now} stderr F \tat shop.Cart.pay(Cart.java:7)\n\
         {now} stdout F {{\"level\":\"warn\",\"msg\":\"slow\",\"user\":7,\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"}}\n"
    );
    fs::write(pods.join("0.log"), cri).unwrap();
    let id = "ab".repeat(32);
    let line = |text: &str| {
        format!(
            "{}\n",
            serde_json::json!({"log": text, "stream": "stdout", "time": now.to_string()})
        )
    };
    let long = format!("long {}", "x".repeat(100_000));
    fs::write(
        docker.join(format!("{id}-json.log")),
        [line("hello\n"), format!("{long}\n"), line("WARN bye\n")].concat(),
    )
    .unwrap();
    fs::write(
        docker.join("config.v2.json"),
        r#"{"Name":"/shop-db-1","Config":{"Labels":{"com.docker.compose.service":"db"}}}"#,
    )
    .unwrap();
    configure(
        &colony,
        &format!(
            "[[logs]]\nfrom = \"start\"\nfiles = [\"{0}/pods/*/*/*.log\", \"{0}/docker/*/*-json.log\"]\n",
            colony.dir().display()
        ),
    );
    let web = until("the pod's records", || {
        let rows = logs(&colony, "service=web")?;
        if rows.len() == 4 { Ok(rows) } else { Err(format!("{rows:?}")) }
    });
    let find = |text: &str| {
        web.iter().find(|r| r.body.contains(text)).unwrap_or_else(|| panic!("{text} in {web:?}"))
    };
    assert_eq!(find("first").body, "first half, second half");
    assert_eq!(find("boom").level, "error");
    assert!(find("IllegalState").body.ends_with("\tat shop.Cart.pay(Cart.java:7)"));
    let slow = find("slow");
    assert_eq!((slow.level.as_str(), slow.body.as_str()), ("warn", "slow"));
    assert_eq!(slow.attributes["user"], "7");
    assert!(slow.trace_id.is_some());
    let db = until("the container's records", || {
        let rows = logs(&colony, "service=db")?;
        if rows.len() == 3 { Ok(rows) } else { Err(format!("{} rows", rows.len())) }
    });
    assert!(db.iter().any(|r| r.level == "warn" && r.body == "WARN bye"));
    let cut = db.iter().map(|r| r.body.len()).max();
    assert_eq!(cut, Some(64 << 10), "the longest line is cut where the documentation says");
    let counters = &colony.status().unwrap().agents[0].counters;
    assert_eq!(counters["log_lines_cut"], 1);
}

/// Makes or continues a journal file with systemd's own program.
fn journal(file: &Path, first: u32, count: u32) {
    let remote = ["/lib/systemd/systemd-journal-remote", "/usr/lib/systemd/systemd-journal-remote"];
    let remote = remote.iter().find(|p| Path::new(p).exists());
    let remote = remote.expect("no systemd-journal-remote: run tools/services.sh first");
    let now = jiff::Timestamp::now().as_microsecond();
    let mut text = String::new();
    for n in first..first + count {
        text.push_str(&format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n\
             _MACHINE_ID=0123456789abcdef0123456789abcdef\n_HOSTNAME=web-3\nPRIORITY={}\n\
             _SYSTEMD_UNIT=payments.service\nMESSAGE=entry number {n}\n_PID=7\n\n",
            now + i64::from(n),
            if n % 10 == 0 { 3 } else { 6 }
        ));
    }
    let mut child = Command::new(remote)
        .arg("-o")
        .arg(file)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_real_journal_is_followed_and_read_on_after_a_killed_agent() {
    let colony = Colony::start();
    let file = colony.dir().join("x.journal");
    journal(&file, 1, 40);
    configure(
        &colony,
        &format!("[[logs]]\nfrom = \"start\"\njournal_file = \"{}\"\n", file.display()),
    );
    let all = |wanted: usize| {
        until("the entries", || {
            let seen = numbers(&logs(&colony, "service=payments")?);
            if seen.len() >= wanted {
                Ok(seen)
            } else {
                Err(format!("{} of {wanted}; {:?}", seen.len(), sense(&colony, "logs/journal")))
            }
        })
    };
    _ = all(40);
    journal(&file, 41, 20);
    _ = all(60);
    Colony::kill(colony.status().unwrap().agents[0].pid);
    journal(&file, 61, 40);
    let seen = all(100);
    assert!(seen.len() == 100 && seen.values().all(|times| *times == 1), "{seen:?}");
    let rows = logs(&colony, "service=payments level=error..").unwrap();
    assert_eq!(rows.len(), 10);
    assert_eq!(rows[0].host.as_deref(), Some("web-3"));
}
