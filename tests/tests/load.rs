//! Twenty minutes of a thousand services on three hundred agents: memory and files stay where they
//! are, and every span and request is counted once. `CORAL_SOAK_SECONDS` makes it shorter.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coral_model::view::Row;
use coral_tests::{Colony, bin_dir, until};

/// What a process weighs, MiB.
fn rss_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// MiB of files below a folder.
fn disk_mib(dir: &std::path::Path) -> u64 {
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_mib(&entry.path()) << 20,
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(size).sum::<u64>() >> 20
}

#[test]
#[ignore = "make soak"]
fn soak_twenty_minutes_of_three_hundred_agents() {
    let seconds = std::env::var("CORAL_SOAK_SECONDS").map_or(1200, |s| s.parse().expect("seconds"));
    // Pieces of a minute: everything an hour brings is brought many times.
    let mut colony = Colony::prepare().with_env("CORAL_SLICE_AGE", "60s");
    colony.up();
    let pid = colony.daemon_pid().expect("a daemon");
    let began = Instant::now();
    let fleet = Command::new(bin_dir().join("coral-fleet"))
        .args(["--colony", &format!("unix:{}", colony.dir().join("colony.sock").display())])
        .args(["--rate", "20000", "--for", &seconds.to_string(), "--patience", "600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the fleet sails");
    let (mut fleet, mut seen) = (fleet, Vec::new());
    while fleet.try_wait().expect("the fleet is there").is_none() {
        std::thread::sleep(Duration::from_secs(1));
        let at = began.elapsed().as_secs();
        seen.push((at, rss_mib(pid), disk_mib(&colony.data())));
        if at.is_multiple_of(30) {
            let (_, rss, disk) = seen[seen.len() - 1];
            eprintln!("{at} s: {rss} MiB of memory, {disk} MiB on disk");
        }
    }
    let out = fleet.wait_with_output().expect("the fleet's word");
    assert!(out.status.success(), "the fleet failed");
    let sent: serde_json::Value = serde_json::from_slice(&out.stdout).expect("what was sent");
    eprintln!("sent {sent}");
    let (spans, servers) = (sent["spans"].as_u64(), sent["server_spans"].as_u64().unwrap_or(0));
    assert_eq!(sent["refused"], 0, "agents had to refuse spans");
    until("everything to be committed", || {
        match colony.status()?.counters.get("spans_committed").copied() {
            n if n == spans => Ok(()),
            n => Err(format!("{n:?} of {spans:?}")),
        }
    });
    until("RED to count every request", || {
        let rows = colony.query(&["red", "--since", "2h", "--limit", "100000"])?;
        let requests = |row: &Row| if let Row::Red(red) = row { red.red.requests } else { 0 };
        match rows.iter().map(requests).sum::<u64>() {
            n if n == servers => Ok(()),
            n => Err(format!("{n} of {servers}")),
        }
    });
    let most = |from: u64, to: u64| {
        let of = seen.iter().filter(|(at, ..)| *at >= seconds * from / 4 && *at < seconds * to / 4);
        of.map(|(_, rss, _)| *rss).max().unwrap_or(0)
    };
    let (second, last) = (most(1, 2), most(3, 4));
    assert!(last <= 1024, "the daemon weighs {last} MiB");
    assert!(last <= second + second / 4 + 64, "memory grew from {second} to {last} MiB");
    let disk = seen.iter().map(|(.., disk)| *disk).max().unwrap_or(0);
    let bound = 2048 + 512;
    assert!(disk <= bound, "{disk} MiB on disk: more than the store's bound");
}
