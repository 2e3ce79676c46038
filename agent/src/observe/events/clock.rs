//! The wall clock was set.

use coral_model::num::i64_sat;
use coral_model::time::{MILLI, Time};
use coral_model::view::EventKind;

use super::Noticed;
use crate::observe::clock::Clocks;

/// A step the clock takes between two ticks that is not slewing: NTP slews at 500 ppm at most, which
/// is 1 ms in 2 s.
const JUMP: u64 = 500 * MILLI;

/// Watches the wall clock against the steady one, which counts sleep too: a suspended laptop's
/// clocks agree when it wakes.
#[derive(Debug, Default)]
pub struct ClockWatch {
    previous: Option<Clocks>,
}

impl ClockWatch {
    /// What the clocks say now.
    pub fn step(&mut self, now: Clocks) -> Option<Noticed> {
        let before = self.previous.replace(now)?;
        let wall = i128::from(now.wall_ns) - i128::from(before.wall_ns);
        let steady = i128::from(now.boot_ns) - i128::from(before.boot_ns);
        let jump = i64_sat(wall - steady);
        let far = jump.unsigned_abs();
        (far > JUMP).then(|| {
            let way = if jump > 0 { "forward" } else { "back" };
            let seconds = far / 1_000_000_000;
            let tenths = far / 100_000_000 % 10;
            let text = format!("the clock was set {way} by {seconds}.{tenths} s");
            Noticed::new(Time(now.wall_ns), EventKind::ClockJumped, text).with("jump_ns", &jump)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_model::time::SECOND;
    use proptest::prelude::*;

    fn clocks(wall_ns: u64, boot_ns: u64) -> Clocks {
        Clocks { wall_ns, boot_ns }
    }

    #[test]
    fn a_step_is_told_once_and_slewing_is_not() {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.step(clocks(1000 * SECOND, 10 * SECOND)), None);
        // 1 ms in 2 s: slewing.
        assert_eq!(watch.step(clocks(1002 * SECOND + MILLI, 12 * SECOND)), None);
        let back = watch.step(clocks(904 * SECOND, 14 * SECOND)).unwrap();
        assert_eq!(back.text, "the clock was set back by 100.0 s");
        assert_eq!(back.attributes["jump_ns"], format!("-{}", 100 * SECOND + MILLI));
        assert_eq!(watch.step(clocks(906 * SECOND, 16 * SECOND)), None);
        // A night of sleep counts on both.
        assert_eq!(watch.step(clocks(30_906 * SECOND, 30_016 * SECOND)), None);
        let forward = watch.step(clocks(30_910 * SECOND, 30_018 * SECOND)).unwrap();
        assert_eq!(forward.text, "the clock was set forward by 2.0 s");
    }

    proptest! {
        #[test]
        fn exactly_steps_are_told(wall in any::<u64>(), boot in any::<u64>(), to in any::<(u64, u64)>()) {
            let mut watch = ClockWatch::default();
            watch.step(clocks(wall, boot));
            let told = watch.step(clocks(to.0, to.1)).is_some();
            let drift = (i128::from(to.0) - i128::from(wall)) - (i128::from(to.1) - i128::from(boot));
            prop_assert_eq!(told, drift.unsigned_abs() > u128::from(JUMP));
        }
    }
}
