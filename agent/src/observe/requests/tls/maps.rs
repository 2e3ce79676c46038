//! What a process maps, as far as its name is that of OpenSSL's library.

/// Whether a file may be OpenSSL's library by its name: `libssl.so.3`, and `libssl-3c5f2a1b.so.3` as Python's
/// packages bring it.
#[must_use]
pub fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let rest = name.strip_prefix("libssl");
    rest.is_some_and(|rest| {
        let known = rest.starts_with('.') || rest.starts_with('-');
        known && rest.contains(".so")
    })
}

/// The library that a line of `/proc/<pid>/maps` maps to run it.
#[must_use]
pub fn library(line: &str) -> Option<&str> {
    // Range, rights, offset, device, inode, and the path, which may have spaces in it.
    let mut rest = line.trim_end_matches('\n');
    let mut rights = "";
    for field in 0..5 {
        let (word, behind) = rest.trim_start_matches(' ').split_once(' ')?;
        if field == 1 {
            rights = word;
        }
        rest = behind;
    }
    let path = rest.trim_start_matches(' ');
    let runs = rights.as_bytes().get(2) == Some(&b'x');
    (runs && path.starts_with('/') && is_library(path)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_is_known_by_its_name() {
        for yes in ["/usr/lib/libssl.so.3", "/x/libssl.so", "/l/libssl-81ffa89e.so.1.1"] {
            assert!(is_library(yes), "{yes}");
        }
        for no in
            ["/usr/lib/libssl3.so", "/usr/lib/libcrypto.so.3", "/x/libssl.txt", "/libssl.so/x"]
        {
            assert!(!is_library(no), "{no}");
        }
    }

    #[test]
    fn only_what_is_run_counts() {
        let line = "7fc7fe307000-7fc7fe365000 r-xp 0001f000 fe:00 393244                     /opt/a b/libssl.so.3\n";
        assert_eq!(library(line), Some("/opt/a b/libssl.so.3"));
        assert_eq!(library(&line.replace("r-xp", "r--p")), None);
        assert_eq!(
            library("7ffc9-7ffca r-xp 00000000 00:00 0                          [vdso]"),
            None
        );
        assert_eq!(library("7fc7fe307000-7fc7fe365000 r-xp 0001f000 fe:00 0 \n"), None);
        assert_eq!(library(""), None);
    }
}
