//! The machine's clocks, read together, and whether the kernel believes them.

use std::io;

use coral_model::num::u64_sat;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Two clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// Wall clock since the Unix epoch: what telemetry is stamped with.
    pub wall_ns: u64,
    /// Since boot, time asleep included: never set, never steps.
    pub boot_ns: u64,
}

#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

fn nanos(time: Timespec) -> u64 {
    u64_sat(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(u64_sat(time.tv_nsec))
}

impl Clocks {
    /// Both clocks now. Being taken off the core between the two reads would look like a jump, so
    /// the closest of a few pairs is kept.
    #[must_use]
    pub fn now() -> Self {
        let pair = || {
            let before = nanos(clock_gettime(STEADY));
            // The very clock that telemetry is stamped with.
            let wall_ns = coral_model::Time::now().0;
            let after = nanos(clock_gettime(STEADY));
            let apart = after.saturating_sub(before);
            (apart, Self { wall_ns, boot_ns: before.saturating_add(apart / 2) })
        };
        let mut best = pair();
        for _ in 0..3 {
            if best.0 < 1_000_000 {
                break;
            }
            best = std::cmp::min_by_key(best, pair(), |p| p.0);
        }
        best.1
    }
}

/// CPU time that this process has used, every thread of it, ns.
#[must_use]
pub fn own_cpu_ns() -> u64 {
    nanos(clock_gettime(ClockId::ProcessCPUTime))
}

/// Whether the kernel's clock is synchronised (`adjtimex(2)` without modes: reads only).
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper of adjtimex exists in rustix or std")]
pub fn synchronised() -> io::Result<bool> {
    // SAFETY: `timex` is plain integers, for which all zeros is a value; modes 0 changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` of this kernel's layout, written only during the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0)
}

/// Other systems do not say.
#[cfg(not(target_os = "linux"))]
pub fn synchronised() -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_read_and_steady_time_does_not_go_back() {
        let (a, b) = (Clocks::now(), Clocks::now());
        assert!(a.wall_ns > 1_600_000_000_000_000_000 && b.boot_ns >= a.boot_ns);
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = own_cpu_ns();
        while own_cpu_ns() == before {
            std::hint::black_box(Clocks::now());
        }
        assert!(own_cpu_ns() > before);
    }

    #[test]
    fn an_ordinary_user_may_ask_whether_the_clock_is_synchronised() {
        // Under a seccomp filter that forbids it (containers) the answer is EPERM, never a guess.
        match synchronised() {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
