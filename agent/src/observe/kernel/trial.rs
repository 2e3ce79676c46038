//! What it costs on this machine that a program is put into a function, tried on a function of the agent's.
//!
//! Each call traps into the kernel. That takes a microsecond or two on most machines, and ten times as much
//! in some virtual ones: enough to make who speaks TLS several times slower, watched or not.

use std::hint::black_box;
use std::time::Instant;

use aya::programs::UProbe;
use aya::programs::uprobe::UProbeScope;

use super::load::told;

/// More than so many nanoseconds a call nobody is made to pay unasked.
pub(super) const DEAR: u64 = 5_000;
/// Calls that are timed together, and how often: the fastest counts, for others run meanwhile.
const CALLS: u64 = 64;
const TIMES: usize = 8;

/// The function.
#[inline(never)]
extern "C" fn called(n: u64) -> u64 {
    black_box(n).wrapping_add(1)
}

/// What a call takes, ns.
fn timed() -> u64 {
    let function: extern "C" fn(u64) -> u64 = black_box(called);
    let once = |_| {
        let began = Instant::now();
        for n in 0..CALLS {
            black_box(function(n));
        }
        u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX) / CALLS
    };
    (0..TIMES).map(once).min().unwrap_or(0)
}

/// Where the function lies in the agent's own file.
fn place(maps: &str, address: u64) -> Option<u64> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let (from, to) = (number(from)?, number(to)?);
        let offset = number(words.nth(1)?)?;
        (from..to).contains(&address).then(|| offset + (address - from))
    })
}

/// How much longer a call takes with a program in it, ns. It is taken out again.
pub(super) fn cost(program: &mut UProbe) -> Result<u64, String> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?;
    let address = u64::try_from((called as *const ()).addr()).map_err(|e| e.to_string())?;
    let at = place(&maps, address).ok_or("the agent does not find itself in /proc/self/maps")?;
    let without = timed();
    let link = program.attach(at, "/proc/self/exe", UProbeScope::CallingProcess);
    let link = link.map_err(|e| told(&e))?;
    let with = timed();
    program.detach(link).map_err(|e| told(&e))?;
    Ok(with.saturating_sub(without))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_memory_is_one_in_a_file() {
        let maps = "5555-6000 r--p 00000000 fe:00 7 /x\n6000-7000 r-xp 00000a00 fe:00 7 /x\n";
        assert_eq!(place(maps, 0x6010), Some(0xa10));
        assert_eq!((place(maps, 0x7000), place("", 1), place("nonsense", 1)), (None, None, None));
        let own = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(place(&own, (called as *const ()).addr() as u64).is_some());
    }
}
