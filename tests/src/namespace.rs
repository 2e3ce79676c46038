//! A mount and process namespace of a test's own: what it mounts nobody else sees, and whatever it
//! leaves behind, mounts and processes alike, the kernel removes when it ends.

use std::path::Path;
use std::process::Command;

/// Set in the copy of the test that runs inside.
const INSIDE: &str = "CORAL_TEST_NAMESPACE";

/// Runs `test` inside a namespace of its own, in a copy of this test's program; `name` is the test's
/// own full name.
///
/// # Panics
/// When the test fails inside. Where the kernel refuses a namespace, the message names the missing
/// capability.
#[track_caller]
pub fn privately(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        test();
        return;
    }
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let own = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(user).args(own).arg("--mount-proc").arg("--");
        command
    };
    let possible = unshare().arg("true").output().expect("unshare (util-linux) runs");
    assert!(
        possible.status.success(),
        "this test mounts small disks in a namespace of its own, which needs CAP_SYS_ADMIN (root, or \
         unprivileged user namespaces): {}",
        String::from_utf8_lossy(&possible.stderr)
    );
    let us = std::env::current_exe().expect("a test knows its own path");
    let status = unshare()
        .arg(us)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{name} failed inside its namespace: {status}");
}

/// Mounts a disk of `bytes` in memory on a folder, which it makes. Only inside [`privately`].
///
/// # Panics
/// When it cannot be mounted.
#[track_caller]
pub fn mount_small_disk(at: &Path, bytes: u64) {
    assert!(std::env::var_os(INSIDE).is_some(), "a disk is mounted in a namespace only");
    // As the colony makes them: it refuses folders that are open to others.
    let mut folders = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
    folders.recursive(true).create(at).expect("a folder");
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "coral-test-disk"])
        .arg(at)
        .status()
        .expect("mount runs");
    assert!(status.success(), "no tmpfs on {}: {status}", at.display());
}

/// Takes away the disks mounted under a folder, so that it can be removed. Nothing is mounted there
/// outside [`privately`].
pub(crate) fn unmount_under(folder: &Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else { return };
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    for point in points.filter(|point| point.starts_with(folder)) {
        _ = Command::new("umount").arg("--lazy").arg(point).status();
    }
}

/// Fills the disk under `file` until `spare` bytes are left (0: to the last byte). Removing the file
/// makes room again.
///
/// # Panics
/// When the file cannot be written for another reason than a full disk.
#[track_caller]
pub fn fill_disk(file: &Path, spare: u64) {
    use std::io::Write as _;
    let mut ballast = std::fs::File::create(file).expect("a ballast file");
    let block = vec![0x5a; 64 << 10];
    loop {
        let stat = rustix::fs::statvfs(file).expect("statvfs");
        let left = (stat.f_bavail * stat.f_frsize).saturating_sub(spare);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        // What others free meanwhile is taken too, until not a page is left.
        if length < 4096 {
            return;
        }
        match ballast.write_all(&block[..length]) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
}
