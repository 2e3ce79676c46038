//! Text files of the kernel, or of something that imitates one.

use coral_agent::observe::parse::{
    cgroup, cpu, disk, memory, mounts, network, numbers, pressure, process, sockets,
};

/// Any text, to every parser: none panics, and no share leaves 0..=1.
pub fn kernel_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = cpu::stat(&text);
    assert!(cpu::load1(&text).is_none_or(f64::is_finite));
    if let Some(pressure) = pressure::pressure(&text) {
        assert!((0.0..=1.0).contains(&pressure.some));
        assert!(pressure.full.is_none_or(|full| (0.0..=1.0).contains(&full)));
    }
    if let Some(memory) = memory::meminfo(&text) {
        assert!(memory.swap_used_bytes <= memory.swap_total_bytes);
    }
    let _ = memory::oom_kills(&text);
    let _ = disk::diskstats(&text);
    let mounted = mounts::mountinfo(&text);
    assert!(mounts::worth_watching(&mounted).len() <= mounted.len());
    let _ = mounts::hidden_processes(&text);
    assert!(network::devices(&text).iter().all(|(name, _)| *name != "lo"));
    let _ = network::column(&text, "Tcp:", "RetransSegs");
    let _ = cgroup::memberships(&text);
    let _ = cgroup::flat(&text);
    let _ = process::stat(&text);
    let _ = process::open_files_limit(&text);
    let _ = numbers(&text);
    let _ = sockets::total(&text, "TCP: ");
    for line in text.lines() {
        if let Some(socket) = sockets::socket(line) {
            assert_eq!(sockets::local_port(line.as_bytes()), Some(socket.local.port()));
        }
    }
}
