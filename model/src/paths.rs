//! Where Coral's files are.
//!
//! The `directories` crate decides the roots; everything below them is named here and nowhere else,
//! so that the program that writes a file and the one that reads it cannot disagree.
//!
//! ```text
//! config   config.toml  colonies/<colony>.toml  keymap.toml  themes/*.toml
//! data     <colony>/    control.db  store/  spool/  logs/daemon.log  daemon.lock  agent/agent.log
//! state    sql-history.jsonl
//! runtime  <colony>.sock
//! project  .coral/config.toml, looked for from the working directory upwards
//! ```

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path a Unix socket can have (`sun_path` is 108 bytes with its NUL on Linux, 104 on macOS).
const SOCKET_PATH_MAX: usize = 103;

/// Why a path cannot be used; each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// There is neither `$HOME` nor an entry in the user database.
    #[error("this user has no home directory; set HOME, or XDG_CONFIG_HOME and XDG_DATA_HOME")]
    NoHome,
    /// A colony's name must be usable as a file name and in a place.
    #[error(
        "`{0}` cannot be a colony's name: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit"
    )]
    BadName(String),
    /// The socket's path is longer than the kernel takes.
    #[error(
        "the socket path {} is longer than {SOCKET_PATH_MAX} bytes; set CORAL_SOCKET to a shorter one",
        .0.display()
    )]
    SocketTooLong(PathBuf),
    /// Somebody else owns the directory in which our socket would lie.
    #[error(
        "{} belongs to user {owner}, not to {uid}; remove it or set CORAL_SOCKET",
        path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// Others may write where our socket would lie.
    #[error("{} is open to others (mode {mode:04o}); chmod 0700 it", path.display())]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It exists and is no directory (a symbolic link is none either).
    #[error("{} is not a directory; remove it or set CORAL_SOCKET", .0.display())]
    NotADirectory(PathBuf),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
}

/// A colony's name: what files, sockets and places call it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ColonyName(String);

impl ColonyName {
    /// The name of the colony that runs when nobody names one.
    pub const DEFAULT: &'static str = "local";

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ColonyName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for ColonyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ColonyName {
    type Err = PathsError;
    fn from_str(text: &str) -> Result<Self, PathsError> {
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let first = text.chars().next().is_some_and(ok);
        if first && text.len() <= 63 && text.chars().all(|c| ok(c) || matches!(c, '.' | '_' | '-'))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(PathsError::BadName(crate::text::fit(text, 80)))
        }
    }
}

/// Every path Coral uses, for one user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// `coral/` among the user's configuration.
    pub config_dir: PathBuf,
    /// `coral/` among the user's data, or `$CORAL_DATA_DIR`.
    pub data_dir: PathBuf,
    /// `coral/` among what programs remember for the user.
    pub state_dir: PathBuf,
    /// Where sockets lie.
    pub runtime_dir: PathBuf,
    /// `$CORAL_SOCKET`: the one socket to use, whatever the colony's name.
    pub socket_override: Option<PathBuf>,
    /// The user.
    pub uid: u32,
}

impl Paths {
    /// For the user this process runs as, from its environment.
    ///
    /// # Errors
    /// [`PathsError::NoHome`].
    pub fn from_env() -> Result<Self, PathsError> {
        Self::new(|name| std::env::var_os(name), rustix::process::geteuid().as_raw())
    }

    /// As [`Self::from_env`], with `CORAL_SOCKET` and `CORAL_DATA_DIR` looked up by `var`.
    ///
    /// # Errors
    /// [`PathsError::NoHome`].
    pub fn new(var: impl Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, PathsError> {
        let dirs = directories::ProjectDirs::from("", "", "coral").ok_or(PathsError::NoHome)?;
        // Absolute, because a daemon that is started with them works elsewhere.
        let named = |name| {
            let value = var(name).filter(|v| !v.is_empty())?;
            std::path::absolute(value).ok()
        };
        let runtime_dir = dirs
            .runtime_dir()
            .filter(|dir| dir.parent().is_some_and(Path::is_dir))
            .map_or_else(|| fallback_runtime_dir(uid), Path::to_path_buf);
        Ok(Self {
            config_dir: dirs.config_dir().to_path_buf(),
            data_dir: named("CORAL_DATA_DIR")
                .unwrap_or_else(|| dirs.data_local_dir().to_path_buf()),
            state_dir: dirs.state_dir().unwrap_or(dirs.data_local_dir()).to_path_buf(),
            runtime_dir,
            socket_override: named("CORAL_SOCKET"),
            uid,
        })
    }

    /// `config.toml` of the user.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.toml")
    }

    /// What the user says about one colony.
    #[must_use]
    pub fn colony_file(&self, colony: &ColonyName) -> PathBuf {
        self.config_dir.join("colonies").join(format!("{colony}.toml"))
    }

    /// The user's keys, as differences from the built-in ones.
    #[must_use]
    pub fn keymap_file(&self) -> PathBuf {
        self.config_dir.join("keymap.toml")
    }

    /// The user's own themes.
    #[must_use]
    pub fn themes_dir(&self) -> PathBuf {
        self.config_dir.join("themes")
    }

    /// Everything one colony keeps.
    #[must_use]
    pub fn colony_dir(&self, colony: &ColonyName) -> PathBuf {
        self.data_dir.join(colony.as_str())
    }

    /// Held with `flock` by the one daemon of the colony.
    #[must_use]
    pub fn lock_file(&self, colony: &ColonyName) -> PathBuf {
        self.colony_dir(colony).join("daemon.lock")
    }

    /// The telemetry store.
    #[must_use]
    pub fn store_dir(&self, colony: &ColonyName) -> PathBuf {
        self.colony_dir(colony).join("store")
    }

    /// Agents, tokens and what else must outlive telemetry.
    #[must_use]
    pub fn control_file(&self, colony: &ColonyName) -> PathBuf {
        self.colony_dir(colony).join("control.db")
    }

    /// The local agent's own data: its id and its spool.
    #[must_use]
    pub fn agent_dir(&self, colony: &ColonyName) -> PathBuf {
        self.colony_dir(colony).join("agent")
    }

    /// Where the colony's programs write about themselves.
    #[must_use]
    pub fn logs_dir(&self, colony: &ColonyName) -> PathBuf {
        self.colony_dir(colony).join("logs")
    }

    /// The daemon's log.
    #[must_use]
    pub fn daemon_log(&self, colony: &ColonyName) -> PathBuf {
        self.logs_dir(colony).join("daemon.log")
    }

    /// The local agent's log.
    #[must_use]
    pub fn agent_log(&self, colony: &ColonyName) -> PathBuf {
        self.agent_dir(colony).join("agent.log")
    }

    /// The socket a colony is asked on, and agents on this machine report to.
    ///
    /// # Errors
    /// [`PathsError::SocketTooLong`].
    pub fn socket(&self, colony: &ColonyName) -> Result<PathBuf, PathsError> {
        let path = self
            .socket_override
            .clone()
            .unwrap_or_else(|| self.runtime_dir.join(format!("{colony}.sock")));
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(PathsError::SocketTooLong(path));
        }
        Ok(path)
    }

    /// Makes the directory the socket lies in (0700) and checks that it is ours alone. With
    /// `$CORAL_SOCKET` the directory is the person's own affair: it only has to exist.
    ///
    /// # Errors
    /// Whatever makes it unsafe or impossible to put a socket there.
    pub fn prepare_runtime_dir(&self) -> Result<(), PathsError> {
        if self.socket_override.is_some() {
            return Ok(());
        }
        make_private_dir(&self.runtime_dir, self.uid)
    }
}

/// Where sockets lie when the session has no runtime directory.
#[must_use]
pub fn fallback_runtime_dir(uid: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/coral-{uid}"))
}

/// Makes `path` (and what leads to it) with mode 0700 where it is missing, then checks it with
/// [`check_private_dir`].
///
/// # Errors
/// See [`PathsError`].
pub fn make_private_dir(path: &Path, uid: u32) -> Result<(), PathsError> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => check_private_dir(path, uid),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_private_dir(path, uid),
        Err(source) => Err(PathsError::Io { path: path.to_path_buf(), source }),
    }
}

/// Whether `path` is a real directory that belongs to `uid` and that nobody else may write.
///
/// # Errors
/// [`PathsError::NotADirectory`], [`PathsError::NotOurs`], [`PathsError::TooOpen`] or
/// [`PathsError::Io`].
pub fn check_private_dir(path: &Path, uid: u32) -> Result<(), PathsError> {
    let meta = fs::symlink_metadata(path)
        .map_err(|source| PathsError::Io { path: path.to_path_buf(), source })?;
    if !meta.is_dir() {
        return Err(PathsError::NotADirectory(path.to_path_buf()));
    }
    if meta.uid() != uid {
        return Err(PathsError::NotOurs { path: path.to_path_buf(), owner: meta.uid(), uid });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PathsError::TooOpen { path: path.to_path_buf(), mode });
    }
    Ok(())
}

/// `.coral/config.toml` of the project that `start` lies in, looked for upwards.
#[must_use]
pub fn project_config(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|dir| dir.join(".coral/config.toml")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn paths() -> Paths {
        Paths {
            config_dir: "/c".into(),
            data_dir: "/d".into(),
            state_dir: "/s".into(),
            runtime_dir: "/r".into(),
            socket_override: None,
            uid: 7,
        }
    }

    #[test]
    fn names_are_file_names() {
        for good in ["local", "shop-7f3a", "a", "0", "x.y_z"] {
            assert_eq!(good.parse::<ColonyName>().unwrap().as_str(), good);
        }
        for bad in ["", "..", "a/b", "A", "-x", ".x", "é", "a b", &"x".repeat(64), "a\0"] {
            assert!(bad.parse::<ColonyName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_socket_lies_in_the_runtime_directory_unless_named() {
        let local = ColonyName::default();
        let mut p = paths();
        assert_eq!(p.socket(&local).unwrap(), Path::new("/r/local.sock"));
        p.socket_override = Some("/s/x".into());
        assert_eq!(p.socket(&local).unwrap(), Path::new("/s/x"));
        p.socket_override = Some("/s".repeat(60).into());
        assert!(matches!(p.socket(&local), Err(PathsError::SocketTooLong(_))));
    }

    #[test]
    fn a_directory_that_is_not_ours_alone_is_refused() {
        let base = std::env::temp_dir().join(format!("coral-paths-{}", std::process::id()));
        let uid = rustix::process::geteuid().as_raw();
        make_private_dir(&base, uid).unwrap();
        make_private_dir(&base, uid).unwrap();
        assert!(matches!(
            check_private_dir(&base, uid.wrapping_add(1)),
            Err(PathsError::NotOurs { .. })
        ));
        let open = base.join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(check_private_dir(&open, uid), Err(PathsError::TooOpen { .. })));
        std::os::unix::fs::symlink(&base, base.join("link")).unwrap();
        assert!(matches!(
            check_private_dir(&base.join("link"), uid),
            Err(PathsError::NotADirectory(_))
        ));
        fs::write(base.join("file"), "").unwrap();
        assert!(matches!(
            make_private_dir(&base.join("file"), uid),
            Err(PathsError::NotADirectory(_))
        ));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn the_projects_file_is_found_from_below() {
        let base = std::env::temp_dir().join(format!("coral-project-{}", std::process::id()));
        fs::create_dir_all(base.join(".coral")).unwrap();
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join(".coral/config.toml"), "").unwrap();
        assert_eq!(project_config(&base.join("a/b")), Some(base.join(".coral/config.toml")));
        fs::remove_dir_all(&base).unwrap();
    }
}
