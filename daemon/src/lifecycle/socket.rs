//! The socket a colony is reached on.
//!
//! Made under a lock of its own name, with its final mode, and only then moved to where callers
//! look: nobody ever meets a stale, half-open or foreign socket there. Should the file disappear (a
//! cleaner of `/tmp`), it is made again. Connections have a cap.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, UdsConnectInfo};

use super::{Lock, LockError};

/// Connections at a time; further ones are closed at once and counted.
const MAX_CONNECTIONS: usize = 512;
/// How often the file is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How long no connection is accepted after accepting failed (out of file descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon of another colony or data directory serves there.
    #[error("{} is served already: {source}; choose another --socket", path.display())]
    Served {
        /// The socket.
        path: PathBuf,
        /// Who holds it.
        source: LockError,
    },
    /// The system refused.
    #[error("cannot serve on {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
}

/// A bound socket, until dropped.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    mode: u32,
    inode: (u64, u64),
    listener: UnixListener,
    slots: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
    look: tokio::time::Interval,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    _lock: Lock,
}

impl Incoming {
    /// Serves on `path`; connections over the cap are counted in `refused`. The lock beside it says
    /// `whose` it is (a colony's name, and where its data are): should this process be killed, whoever
    /// finds the socket without a daemon starts that colony and no other.
    pub fn bind(
        path: &Path,
        mode: u32,
        whose: &[&str],
        refused: Arc<AtomicU64>,
    ) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        let mut lock = Lock::take(&beside(path, ".lock")).map_err(|source| match source {
            LockError::Held { .. } => SocketError::Served { path: path.to_owned(), source },
            LockError::Io { source, .. } => io(source),
        })?;
        lock.note(whose).map_err(io)?;
        let (listener, inode) = listen(path, mode).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            mode,
            inode,
            listener,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            refused,
            look: tokio::time::interval(LOOK),
            pause: None,
            _lock: lock,
        })
    }

    fn look_after_the_file(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            return;
        }
        match listen(&self.path, self.mode) {
            Ok((listener, inode)) => {
                tracing::warn!("{} had disappeared: made it again", self.path.display());
                (self.listener, self.inode) = (listener, inode);
            }
            Err(e) => {
                tracing::warn!("{} has disappeared, cannot make it: {e}", self.path.display());
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Listens under a name nobody looks at, then moves the socket, replacing a stale one.
fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, (u64, u64))> {
    let new = beside(path, ".new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(mode))?;
    std::fs::rename(&new, path)?;
    Ok((listener, inode(path)?))
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Conn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.look.poll_tick(cx).is_ready() {
            self.look_after_the_file();
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        loop {
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => match Arc::clone(&self.slots).try_acquire_owned() {
                    Ok(slot) => return Poll::Ready(Some(Ok(Conn { stream, _slot: slot }))),
                    Err(_) => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                    }
                },
                Err(e) => {
                    tracing::warn!("cannot accept a connection: {e}");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                    return self.poll_next(cx);
                }
            }
        }
    }
}

/// A connection, and its place under the cap.
#[derive(Debug)]
pub struct Conn {
    stream: UnixStream,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Conn {
    type ConnectInfo = UdsConnectInfo;
    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = Incoming::bind(&path, 0o600, &[], Arc::default()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Incoming::bind(&path, 0o600, &[], Arc::default());
        assert!(matches!(second, Err(SocketError::Served { .. })));
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_disappeared_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.sock");
        let mut incoming = Incoming::bind(&path, 0o600, &[], Arc::default()).unwrap();
        incoming.look = tokio::time::interval(Duration::from_millis(10));
        std::fs::remove_file(&path).unwrap();
        let accept = tokio::spawn(async move {
            _ = incoming.next().await;
            incoming
        });
        while UnixStream::connect(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
        accept.await.unwrap();
    }

    #[tokio::test]
    async fn connections_over_the_cap_are_closed_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.sock");
        let refused = Arc::new(AtomicU64::new(0));
        let mut incoming = Incoming::bind(&path, 0o600, &[], Arc::clone(&refused)).unwrap();
        incoming.slots = Arc::new(Semaphore::new(1));
        let _one = UnixStream::connect(&path).await.unwrap();
        let first = incoming.next().await.unwrap().unwrap();
        let mut two = UnixStream::connect(&path).await.unwrap();
        let serve = tokio::spawn(async move { incoming.next().await });
        let mut byte = [0];
        let end = tokio::io::AsyncReadExt::read(&mut two, &mut byte).await.unwrap();
        assert_eq!((end, refused.load(Ordering::Relaxed)), (0, 1));
        drop(first);
        let _three = UnixStream::connect(&path).await.unwrap();
        assert!(serve.await.unwrap().is_some());
    }
}
