//! A real nginx, and what asks it: programs of a test's own, so that nobody else's are counted.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coral_model::view::Red;

use crate::colony::Colony;
use crate::eyes::may_look;
use crate::wait::until;

/// One test at a time: a program that is gone before it is looked up is known by its name alone, and these
/// tests run programs of the same names, each for an agent of its own.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server, and who asks it.
pub const USUAL: [&str; 3] = ["nginx", "ab", "h2load"];

/// A colony that watches copies of `programs` (paths) which are called by one of `names`, and these copies; `None` where
/// the kernel does not let its agent look.
#[must_use]
pub fn watched(programs: &[&str], names: &[&str]) -> Option<(Colony, Programs)> {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), programs);
    let mut colony = colony.with_env("CORAL_WATCH", programs.watch(names));
    colony.up();
    may_look(&colony).then_some((colony, programs))
}

/// Copies of programs in a folder of the test's, which alone are watched.
pub struct Programs {
    /// The folder.
    pub dir: PathBuf,
}

impl Programs {
    /// Copies `programs`, by their paths, into `dir`.
    #[must_use]
    pub fn copied(dir: &Path, programs: &[&str]) -> Self {
        for program in programs {
            let from = Path::new(program);
            assert!(from.exists(), "no {program}: run tools/services.sh first");
            std::fs::copy(from, dir.join(from.file_name().unwrap())).unwrap();
        }
        Self { dir: dir.to_owned() }
    }

    /// Where one is, by its name.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// What `CORAL_WATCH` is set to, so that these are watched.
    #[must_use]
    pub fn watch(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.path(name)).collect::<Vec<_>>().join(",")
    }

    /// Runs one to its end, and gives what it said.
    pub fn run(&self, program: &str, args: &[&str], url: &str) -> String {
        let mut command = Command::new(self.dir.join(program));
        let output = command.args(args).arg(url).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {text} {output:?}");
        text
    }
}

/// A running nginx. Dropping it ends it and its workers.
pub struct Nginx {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    /// Where it listens.
    pub port: u16,
}

/// A line of the access log.
pub struct Logged {
    /// The status.
    pub status: String,
    /// How long it took.
    pub seconds: f64,
    /// What was asked for.
    pub method: String,
    /// Where, without the query.
    pub path: String,
}

/// The quantile as Coral defines it.
fn quantile(seconds: &mut [f64], q: f64) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let rank = (q * seconds.len() as f64).ceil() as usize;
    seconds[rank.clamp(1, seconds.len()) - 1]
}

/// Coral's durations of what was asked for at `path` are those of the log.
pub fn assert_as_slow(log: &[Logged], path: &str, red: &Red) {
    let of_path = log.iter().filter(|line| line.path == path);
    let mut slow: Vec<f64> = of_path.map(|line| line.seconds).collect();
    // $request_time has whole milliseconds: 5 %, or one of those and the histogram's 1.1 %.
    for (q, ns) in [(0.5, red.p50_ns), (0.99, red.p99_ns)] {
        let (logged, seen) = (quantile(&mut slow, q), ns.unwrap() as f64 / 1e9);
        assert!(logged > 0.1, "nothing was slow: {logged}");
        let near = (seen - logged).abs() <= (0.05 * logged).max(0.001 + 0.011 * logged);
        assert!(near, "p{}: nginx says {logged} s, Coral {seen} s", q * 100.0);
    }
}

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Nginx {
    /// One that serves files.
    #[must_use]
    pub fn start(programs: &Programs) -> Self {
        Self::with(programs, "nginx", "", "root {at}/www; limit_rate $arg_rate;")
    }

    /// One under a folder of its own; `{at}` in `server` stands for that. `listen` is what is said of
    /// its port.
    #[must_use]
    pub fn with(programs: &Programs, name: &str, listen: &str, server: &str) -> Self {
        let dir = &programs.dir.join(format!("run-{name}"));
        let www = dir.join("www");
        std::fs::create_dir_all(&www).unwrap();
        std::fs::write(www.join("small.html"), "<p>small</p>\n").unwrap();
        std::fs::write(www.join("marker.html"), "<p>marker</p>\n").unwrap();
        std::fs::write(www.join("large.bin"), vec![7; 1_000_000]).unwrap();
        std::fs::write(www.join("slow.bin"), vec![7; 150_000]).unwrap();
        let port = free_port();
        let at = dir.display().to_string();
        let server = server.replace("{at}", &at);
        let config = format!(
            "daemon off; master_process on; worker_processes 2; pid {at}/nginx.pid; \
             error_log {at}/error.log; events {{ worker_connections 512; }} \
             http {{ log_format t '$status $request_time $request_method $uri'; \
             access_log {at}/access.log t; \
             client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3; \
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5; \
             sendfile on; keepalive_requests 1000000; \
             server {{ listen 127.0.0.1:{port} {listen}; {server} }} }}"
        );
        std::fs::write(dir.join("nginx.conf"), config).unwrap();
        let program = programs.dir.join(name);
        let child = Self::spawn(&program, dir);
        let nginx = Self { child, program, dir: dir.clone(), port };
        nginx.wait();
        nginx
    }

    fn spawn(program: &Path, dir: &Path) -> Child {
        Command::new(program)
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait(&self) {
        until("nginx to listen", || {
            let connected = std::net::TcpStream::connect(("127.0.0.1", self.port));
            connected.map(drop).map_err(|e| e.to_string())
        });
    }

    /// Its master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its workers.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Ends it and starts it with this in front of its configuration.
    pub fn again(&mut self, more: &str) {
        self.end();
        let path = self.dir.join("nginx.conf");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{more}{config}")).unwrap();
        self.child = Self::spawn(&self.program, &self.dir);
        self.wait();
    }

    fn end(&mut self) {
        // TERM to the master ends its workers too.
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        _ = self.child.wait();
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn logged(&self) -> Vec<Logged> {
        let text = std::fs::read_to_string(self.dir.join("access.log")).unwrap();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            let (status, seconds) = (word(), word().parse().unwrap());
            Logged { status, seconds, method: word(), path: word() }
        };
        text.lines().map(line).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end();
    }
}
