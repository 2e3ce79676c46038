//! Redis and PostgreSQL of the shop's own: Debian's binaries, private data, loopback ports, a random password.
//!
//! PostgreSQL refuses to run as root; a root user's shop runs it as `nobody`. Nothing here is meant to survive a
//! crash: no fsync, no dumps.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;

use super::child::Child;
use super::ports;
use super::state::StateDir;

const READY_WITHIN: Duration = Duration::from_secs(30);
const TRY_EVERY: Duration = Duration::from_millis(25);
/// Debian's `nobody:nogroup`.
const NOBODY: u32 = 65_534;

/// Both servers, running.
pub struct Backing {
    pub redis: Child,
    pub redis_port: u16,
    pub postgres: Child,
    pub postgres_port: u16,
    pub password: String,
    log_dir: PathBuf,
    /// A data directory outside the state directory, to be removed in the end.
    borrowed: Option<PathBuf>,
}

impl Backing {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    /// When a program is missing or a server does not come up; its log says why.
    pub async fn start(dir: &StateDir, say: impl Fn(&str, Duration, &str)) -> anyhow::Result<Self> {
        let password = dir.password()?;
        let redis_server = redis_program(dir.path())?;
        let postgres_bin = program("initdb")?;
        let postgres_bin = postgres_bin.parent().context("initdb without a directory")?;
        let redis_port = ports::free(&BTreeMap::new())?;
        let taken = BTreeMap::from([("redis".to_owned(), redis_port)]);
        let postgres_port = ports::free(&taken)?;

        let began = Instant::now();
        let redis = start_redis(&redis_server, redis_port, &password, dir.path())?;
        let data = DataDir::choose(dir.path())?;
        if data.is_fresh_needed(postgres_bin, &password) {
            data.make(postgres_bin, &password)?;
            say("postgres initdb", began.elapsed(), &data.path.display().to_string());
        }
        let postgres = start_postgres(postgres_bin, postgres_port, &data, dir.path())?;
        let mut backing = Self {
            redis,
            redis_port,
            postgres,
            postgres_port,
            password,
            log_dir: dir.path().to_owned(),
            borrowed: data.borrowed.then_some(data.path),
        };
        backing.wait_for("redis", redis_answers).await?;
        say(
            "redis",
            began.elapsed(),
            &format!("127.0.0.1:{redis_port}  pid {}", backing.redis.pid()),
        );
        backing.wait_for("postgres", postgres_answers).await?;
        let at = format!("127.0.0.1:{postgres_port}  pid {}", backing.postgres.pid());
        say("postgres", began.elapsed(), &at);
        Ok(backing)
    }

    async fn wait_for<F>(&mut self, name: &str, answers: fn(u16, String) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let port = if name == "redis" { self.redis_port } else { self.postgres_port };
        let until = Instant::now() + READY_WITHIN;
        loop {
            let Err(error) = answers(port, self.password.clone()).await else { return Ok(()) };
            self.check()?;
            anyhow::ensure!(
                Instant::now() < until,
                "{name} does not answer ({error:#}); see {}",
                self.log_dir.join(format!("{name}.log")).display()
            );
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Both must stay up.
    ///
    /// # Errors
    /// When one has ended, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for (name, child) in [("redis", &mut self.redis), ("postgres", &mut self.postgres)] {
            if let Some(status) = child.exited() {
                let log = self.log_dir.join(format!("{name}.log"));
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().rev().take(3).collect::<Vec<_>>();
                anyhow::bail!(
                    "{name} ended ({status}): {}",
                    last.into_iter().rev().collect::<Vec<_>>().join(" | ")
                );
            }
        }
        Ok(())
    }

    pub async fn stop(&mut self) {
        self.redis.ask_to_stop();
        self.postgres.stop().await;
        self.redis.stop().await;
        if let Some(path) = self.borrowed.take() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        self.redis.kill();
        self.postgres.kill();
        if let Some(path) = self.borrowed.take() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Debian's redis-tools holds the server's program under another name: redis-server is a link to redis-check-rdb, and
/// the name that it is called by decides what it does. So that package is enough, and it brings no system service.
fn redis_program(dir: &Path) -> anyhow::Result<PathBuf> {
    program("redis-server").or_else(|missing| {
        let Ok(checker) = program("redis-check-rdb") else { return Err(missing) };
        let link = dir.join("redis-server");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(checker, &link)?;
        Ok(link)
    })
}

/// Finds a server's program where Debian puts it.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    // The newest PostgreSQL first; Debian keeps its servers out of PATH.
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut found: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
        found.sort_by_key(|path| {
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok())
        });
        places.extend(found.into_iter().rev().map(|path| path.join("bin")));
    }
    if let Some(path) = std::env::var_os("PATH") {
        places.extend(std::env::split_paths(&path));
    }
    places
        .into_iter()
        .map(|place| place.join(name))
        .find(|path| {
            std::fs::metadata(path)
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .with_context(|| {
            format!("{name} was not found; tools/services.sh installs what the shop needs")
        })
}

/// A command that gets the signal when this process dies, and runs as `nobody` if asked to.
fn guarded(program: &Path, signal: &str, as_nobody: bool) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]);
    if as_nobody {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg("--").arg(program).current_dir("/");
    command
}

fn start_redis(program: &Path, port: u16, password: &str, dir: &Path) -> anyhow::Result<Child> {
    // The configuration comes on stdin: a password in an argument list could be read by anyone.
    let config = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave \"\"\nappendonly no\n\
         maxmemory 64mb\nmaxmemory-policy volatile-lru\nhz 5\ndaemonize no\n"
    );
    let mut command = guarded(program, "TERM", false);
    command.arg("-");
    let mut child = Child::start(&mut command, &dir.join("redis.log"), &config, Signal::TERM)?;
    child.close_stdin();
    Ok(child)
}

fn start_postgres(bin: &Path, port: u16, data: &DataDir, dir: &Path) -> anyhow::Result<Child> {
    let mut command = guarded(&bin.join("postgres"), "INT", data.as_nobody);
    command.arg("-D").arg(&data.path);
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "unix_socket_directories=",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "shared_buffers=4MB",
        "max_connections=20",
        "max_wal_size=64MB",
        "max_worker_processes=1",
        "max_parallel_workers=0",
        "max_logical_replication_workers=0",
        "jit=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "bgwriter_delay=2s",
        "wal_writer_delay=2s",
    ] {
        command.args(["-c", setting]);
    }
    let mut child = Child::start(&mut command, &dir.join("postgres.log"), "", Signal::INT)?;
    child.close_stdin();
    Ok(child)
}

/// Where PostgreSQL keeps its files and who it runs as.
struct DataDir {
    path: PathBuf,
    as_nobody: bool,
    borrowed: bool,
}

impl DataDir {
    /// Inside the state directory, unless PostgreSQL's user cannot get there (a root user's home is closed).
    fn choose(dir: &Path) -> anyhow::Result<Self> {
        let as_nobody = rustix::process::geteuid().is_root();
        let open = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o001 != 0)
        };
        if !as_nobody || dir.ancestors().all(open) {
            return Ok(Self { path: dir.join("postgres"), as_nobody, borrowed: false });
        }
        // One that was left by a shop that was killed is taken away first.
        let note = dir.join("borrowed");
        if let Ok(left) = std::fs::read_to_string(&note) {
            let _ = std::fs::remove_dir_all(left);
        }
        let tag = getrandom::u64().context("randomness")?;
        let path = std::env::temp_dir().join(format!("coral-shop-postgres-{tag:016x}"));
        std::fs::write(&note, path.as_os_str().as_encoded_bytes())?;
        Ok(Self { path, as_nobody, borrowed: true })
    }

    /// Whether there is no cluster of this PostgreSQL with this password.
    fn is_fresh_needed(&self, bin: &Path, password: &str) -> bool {
        let version = std::fs::read_to_string(self.path.join("PG_VERSION")).unwrap_or_default();
        let same_version = bin.ancestors().any(|part| part.ends_with(version.trim()));
        let owner = if self.as_nobody { NOBODY } else { rustix::process::geteuid().as_raw() };
        let same_owner = std::fs::metadata(&self.path).is_ok_and(|m| m.uid() == owner);
        let kept = std::fs::read_to_string(self.password_file()).unwrap_or_default();
        version.is_empty() || !same_version || !same_owner || kept != password
    }

    fn password_file(&self) -> PathBuf {
        self.path.with_extension("password")
    }

    fn make(&self, bin: &Path, password: &str) -> anyhow::Result<()> {
        if self.path.exists() {
            std::fs::remove_dir_all(&self.path).context("old database")?;
        }
        std::fs::create_dir(&self.path).with_context(|| format!("{}", self.path.display()))?;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o700))?;
        if self.as_nobody {
            std::os::unix::fs::chown(&self.path, Some(NOBODY), Some(NOBODY))?;
        }
        let secret = self.password_file();
        let _ = std::fs::remove_file(&secret);
        let mut file =
            std::fs::File::options().create_new(true).write(true).mode(0o600).open(&secret)?;
        file.write_all(password.as_bytes())?;
        if self.as_nobody {
            std::os::unix::fs::chown(&secret, Some(NOBODY), Some(NOBODY))?;
        }
        let mut command = guarded(&bin.join("initdb"), "KILL", self.as_nobody);
        command.arg("-D").arg(&self.path).arg("--pwfile").arg(&secret).args([
            "--username=shop",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]);
        let output = command.output().context("setpriv (util-linux) cannot be started")?;
        if self.borrowed {
            let _ = std::fs::remove_file(&secret);
        }
        anyhow::ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

async fn redis_answers(port: u16, password: String) -> anyhow::Result<()> {
    let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{port}/"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async::<String>(&mut connection).await?;
    Ok(())
}

async fn postgres_answers(port: u16, password: String) -> anyhow::Result<()> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user("shop")
        .password(password)
        .dbname("postgres")
        .connect_timeout(Duration::from_secs(2));
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    let answer = client.simple_query("SELECT 1").await;
    drop(client);
    let _ = driver.await;
    answer?;
    Ok(())
}
