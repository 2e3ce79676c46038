//! Hosts of a test's own: network namespaces joined by a wire, gone when the test is.

use std::process::{Command, Stdio};

use crate::colony::{Colony, bin_dir};
use crate::running::Running;
use crate::wait::until;

/// A host. It lives as long as the process that holds its namespace, which dies with the test.
pub struct Host {
    holder: Running,
}

impl Host {
    /// One whose only interface is the loopback; `None`, with the reason printed, where the kernel refuses
    /// network namespaces.
    ///
    /// # Panics
    /// When util-linux or iproute2 is missing.
    #[must_use]
    pub fn new() -> Option<Self> {
        let possible = Command::new("unshare").args(["--net", "true"]).output().expect("unshare");
        if !possible.status.success() {
            let why = String::from_utf8_lossy(&possible.stderr).into_owned();
            eprintln!("skipped: no network namespaces (CAP_SYS_ADMIN): {why}");
            return None;
        }
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
        let holder = Running::start(command.stdin(Stdio::null()));
        let host = Self { holder };
        until("a network namespace", || {
            let theirs = std::fs::read_link(format!("/proc/{}/ns/net", host.pid()));
            match theirs {
                Ok(theirs) if theirs != own => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        host.run(&["ip", "link", "set", "lo", "up"]);
        Some(host)
    }

    fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Joins this one and another by a wire, with these addresses (`10.77.1.1/24`).
    ///
    /// # Panics
    /// When that is refused.
    pub fn wire(&self, address: &str, other: &Self, others: &str) {
        let (own, theirs) = (self.pid().to_string(), other.pid().to_string());
        let link = ["ip", "link", "add", "wire", "netns", &own, "type", "veth", "peer", "name"];
        let output = Command::new(link[0])
            .args(&link[1..])
            .args(["wire", "netns", &theirs])
            .output()
            .expect("ip");
        assert!(output.status.success(), "{output:?}");
        for (host, address) in [(self, address), (other, others)] {
            host.run(&["ip", "address", "add", address, "dev", "wire"]);
            host.run(&["ip", "link", "set", "wire", "up"]);
        }
    }

    /// A program on this host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg("--").arg(program);
        command
    }

    /// Runs one to its end.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let (program, args) = words.split_first().expect("a program");
        let output = self.command(program).args(args).output().expect("nsenter");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// An agent of this host, of a colony, that watches these.
    #[must_use]
    pub fn agent(&self, colony: &Colony, name: &str, watch: &str) -> Running {
        let agent = bin_dir().join("coral-agent");
        let uplink = format!("unix:{}", colony.dir().join("colony.sock").display());
        let mut command = self.command(&agent.display().to_string());
        command.args(["--colony", &uplink, "--host-name", name, "--watch", watch]);
        command.args(["--otlp-grpc", "off", "--otlp-http", "off", "--data"]);
        command.arg(colony.dir().join(name)).stdin(Stdio::null()).stderr(Stdio::null());
        Running::start(&mut command)
    }
}
