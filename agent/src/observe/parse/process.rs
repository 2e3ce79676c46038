//! `/proc/<pid>/stat`, `/proc/<pid>/limits` and `/proc/<pid>/environ`.

use super::number;

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// It has ended and nobody has asked how (`Z`), or is about to be gone (`X`).
    pub dead: bool,
    /// Clock ticks used, user and system.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// When it began, in clock ticks since boot: with the pid, an identity that is never used again.
    pub start_ticks: u64,
    /// Resident pages.
    pub rss_pages: u64,
    /// Its parent.
    pub parent: u32,
    /// Where its stack begins, which the kernel chooses whenever a program is run; 0 where this user may not
    /// know it.
    pub stack: u64,
    /// A thread of the kernel (child of 2, or 2 itself): never a service.
    pub kernel: bool,
}

/// Reads it. The name, in parentheses, may itself hold spaces, parentheses and newlines.
#[must_use]
pub fn stat(text: &str) -> Option<ProcessStat> {
    let (pid, _) = text.split_once(" (")?;
    let (_, rest) = text.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().take(26).collect();
    // Field n of proc(5) is word n - 3.
    let field = |n: usize| number(words.get(n.checked_sub(3)?)?);
    let state = *words.first()?;
    let parent = field(4)?;
    Some(ProcessStat {
        dead: matches!(state, "Z" | "X" | "x"),
        cpu_ticks: field(14)?.saturating_add(field(15)?),
        threads: field(20)?,
        start_ticks: field(22)?,
        rss_pages: field(24)?,
        parent: u32::try_from(parent).ok()?,
        stack: field(28).unwrap_or(0),
        kernel: pid == "2" || parent == 2,
    })
}

/// The soft limit on open files.
#[must_use]
pub fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        word => number(word),
    }
}

/// What a variable of an environment is set to, zeros between the entries; `None` where that is nothing.
#[must_use]
pub fn variable<'a>(environment: &'a str, name: &str) -> Option<&'a str> {
    let mut entries = environment.split('\0').filter_map(|entry| entry.split_once('='));
    entries.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn a_real_process_is_understood() {
        let vim = stat(fixtures::PID_STAT_OLD).unwrap();
        assert_eq!((vim.cpu_ticks, vim.threads, vim.start_ticks), (1677 + 44, 1, 82375));
        assert_eq!((vim.rss_pages, vim.dead, vim.kernel), (1981, false, false));
        assert_eq!(open_files_limit(fixtures::LIMITS_OLD), Some(2048));
        assert_eq!(open_files_limit("Max open files   unlimited  unlimited files"), Some(u64::MAX));
    }

    #[test]
    fn a_variable_is_set_or_it_is_not() {
        let environment = "A=b=c\0EMPTY=\0odd\0LAST=x";
        let of = |name: &str| variable(environment, name);
        assert_eq!((of("A"), of("LAST")), (Some("b=c"), Some("x")));
        assert_eq!((of("EMPTY"), of("odd"), of("AS")), (None, None, None));
    }

    #[test]
    fn a_name_cannot_forge_the_fields_after_it() {
        let evil = "7 (a) Z 1 ( b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 9 0 777 1 42 0";
        let read = stat(evil).unwrap();
        assert_eq!(
            (read.dead, read.cpu_ticks, read.threads, read.start_ticks),
            (false, 110, 9, 777)
        );
        assert_eq!(read.rss_pages, 42);
    }
}
