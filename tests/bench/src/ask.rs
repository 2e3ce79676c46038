//! Asking a colony as `coral query` does: over its Unix socket, every row read to the last.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use coral_proto::v1::colony_client::ColonyClient;
use coral_proto::v1::{QueryRequest, StatusRequest, TimeWindow};
use coral_tests::colony::bin_dir;
use tonic::transport::Channel;

use crate::process::Server;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A colony of the bench's own over a store.
pub struct House {
    /// The daemon; stopped before its folder goes.
    pub daemon: Server,
    dir: tempfile::TempDir,
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    client: ColonyClient<Channel>,
}

/// A question and its window.
pub struct Asked<'a> {
    /// What.
    pub view: &'a str,
    /// From and to, Unix ns.
    pub window: (u64, u64),
    /// Filter.
    pub filter: String,
    /// A trace.
    pub subject: Option<String>,
}

/// What an answer was.
pub struct Told {
    /// Seconds until the last row was here.
    pub seconds: f64,
    /// Rows, without the end.
    pub rows: usize,
    /// Its end, as JSON.
    pub end: serde_json::Value,
}

impl House {
    /// Starts a daemon over the files of `store`, which stay as they are: segments are linked, the
    /// database is copied. Without a store it begins an empty one.
    pub fn over(store: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("coral-bench-");
        let dir = match store.and_then(Path::parent) {
            // Beside the store, where its files can be linked.
            Some(beside) => builder.tempdir_in(beside)?,
            None => builder.tempdir()?,
        };
        let own = dir.path().join("data/bench/store");
        std::fs::create_dir_all(own.join("segments"))?;
        // A daemon takes no folder that others may enter.
        for private in own.ancestors().take(3) {
            std::fs::set_permissions(private, std::fs::Permissions::from_mode(0o700))?;
        }
        if let Some(store) = store {
            std::fs::copy(store.join("telemetry.duckdb"), own.join("telemetry.duckdb"))?;
            for entry in std::fs::read_dir(store.join("segments"))? {
                let entry = entry?;
                std::fs::hard_link(entry.path(), own.join("segments").join(entry.file_name()))?;
            }
        }
        // A socket's path must be short.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("coral-bench-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let forever = ["SPANS", "LOGS", "METRICS", "RED_10S", "RED_1M", "RED_1H", "EVENTS"]
            .map(|what| (format!("CORAL_RETENTION_{what}"), "36500d"));
        let daemon = Server::start(
            Command::new(bin_dir().join("coral-daemon"))
                .args(["--colony", "bench", "--stay", "--no-agent", "--foreground"])
                .arg("--data")
                .arg(dir.path().join("data"))
                .arg("--socket")
                .arg(&socket)
                .env("XDG_CONFIG_HOME", dir.path().join("config"))
                .env("XDG_STATE_HOME", dir.path().join("state"))
                .env("CORAL_DISK_MAX", "200GiB")
                .envs(forever),
        )?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(connect(&socket))?;
        Ok(Self { daemon, dir, socket, runtime, client })
    }

    /// Its socket, as an agent is told of it.
    pub fn uplink(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Bytes of its store on disk.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        let store = self.dir.path().join("data/bench/store");
        let mut bytes = 0;
        for dir in [store.clone(), store.join("segments")] {
            for entry in std::fs::read_dir(dir)? {
                let meta = entry?.metadata()?;
                bytes += if meta.is_file() { meta.len() } else { 0 };
            }
        }
        Ok(bytes)
    }

    /// A counter of the colony.
    pub fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let reply = self.runtime.block_on(self.client.clone().status(StatusRequest {}))?;
        let status: serde_json::Value = serde_json::from_slice(&reply.into_inner().json)?;
        Ok(status["counters"][name].as_u64().unwrap_or(0))
    }

    /// Asks, and reads the answer.
    pub fn ask(&self, asked: &Asked<'_>) -> anyhow::Result<Told> {
        let request = QueryRequest {
            view: asked.view.into(),
            window: Some(TimeWindow { from_ns: asked.window.0, to_ns: asked.window.1 }),
            filter: asked.filter.clone(),
            subject: asked.subject.clone(),
            limit: 100_000,
            mode: "once".into(),
            order: "recent".into(),
            ..QueryRequest::default()
        };
        let mut client = self.client.clone();
        self.runtime.block_on(async move {
            let began = Instant::now();
            let mut stream = client.query(request).await?.into_inner();
            let (mut rows, mut last) = (0usize, None);
            while let Some(some) = stream.message().await? {
                rows += some.json.len();
                last = some.json.last().cloned().or(last);
            }
            let seconds = began.elapsed().as_secs_f64();
            let end = serde_json::from_slice(&last.context("an answer has an end")?)?;
            Ok(Told { seconds, rows: rows.saturating_sub(1), end })
        })
    }
}

async fn connect(socket: &Path) -> anyhow::Result<ColonyClient<Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    for _ in 0..1200 {
        if let Ok(channel) = endpoint.connect().await {
            return Ok(ColonyClient::new(channel).max_decoding_message_size(256 << 20));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("nobody serves on {} after 60 s", socket.display())
}

impl Drop for House {
    fn drop(&mut self) {
        // It is killed, not asked to leave.
        _ = std::fs::remove_file(&self.socket);
        _ = std::fs::remove_file(self.socket.with_extension("sock.lock"));
    }
}
