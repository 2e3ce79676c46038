//! Prints what the agent sees of this machine, and what looking costs:
//! `cargo run --release -p coral-agent --example senses [readings [processes]]`.

use std::sync::Arc;

use coral_agent::observe::{Observer, ServiceProcesses, Sighting, Witness};
use coral_model::Time;
use rustix::time::{ClockId, clock_gettime};

fn cpu_us() -> i64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec * 1_000_000 + used.tv_nsec / 1_000
}

/// The pid of a process that is none of the kernel's own: those have no memory.
fn program(entry: &std::fs::DirEntry) -> Option<u32> {
    let pid = entry.file_name().to_str()?.parse().ok()?;
    let sizes = std::fs::read_to_string(entry.path().join("statm")).ok()?;
    (!sizes.starts_with("0 ")).then_some(pid)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let readings: i64 = std::env::args().nth(1).map_or(Ok(50), |n| n.parse())?;
    let services = Arc::new(ServiceProcesses::new("here"));
    let most: usize = std::env::args().nth(2).map_or(Ok(32), |n| n.parse())?;
    // Processes of this machine, as if each were a service.
    let entries = std::fs::read_dir("/proc")?.flatten();
    for pid in entries.filter_map(|entry| program(&entry)).take(most) {
        services.note(Sighting {
            service: format!("process-{pid}"),
            instance: None,
            host: Some("here".into()),
            pid: Some(pid),
            executable: None,
            peer: None,
            at: Time::now(),
            witness: Witness::Service,
        });
    }
    let mut observer = Observer::new("here", services, Arc::default(), Arc::default());
    observer.tick(None);
    let before = cpu_us();
    let mut tick = observer.tick(None);
    for _ in 1..readings {
        tick = observer.tick(None);
    }
    let each = (cpu_us() - before) / readings.max(1);
    println!("{}", serde_json::to_string_pretty(&tick.row)?);
    for sense in &tick.senses {
        println!("{}: {:?}, {}", sense.name, sense.state, sense.why);
    }
    let processes = tick.row.processes.len();
    println!("{each} µs of CPU for each of {readings} readings, {processes} processes followed");
    Ok(())
}
