//! A window cut into stretches, each read from the coarsest buckets that lie in it whole.
//!
//! Buckets of a minute and of an hour are sums of those of 10 s, so an answer about an hour needs the
//! finest ones at its two ends only: it is the same to the request, and is read from a tenth of the
//! rows.

use coral_model::time::{BUCKET, SECOND, Time, Window};

use crate::store::Reading;

/// Lengths of buckets that are kept, coarsest first.
const WIDTHS: [u64; 3] = [3600 * SECOND, 60 * SECOND, BUCKET];
/// Buckets a stretch must have before it is read by itself: it costs a look into more files.
const WORTH: u64 = 3;

/// Part of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Whole buckets of the resolution.
    pub window: Window,
    /// Buckets may be as coarse as this, ns.
    pub resolution: u64,
}

/// Cuts a window of whole buckets of `finest` ns. Buckets no coarser than `coarsest` are used, and only
/// such that divide it: nothing is known of where in a bucket its requests lie.
pub fn cut(conn: &Reading<'_>, window: Window, finest: u64, coarsest: u64) -> Vec<Stretch> {
    if window.length() == 0 {
        return Vec::new();
    }
    for width in WIDTHS.into_iter().filter(|w| *w > finest && coarsest.is_multiple_of(*w)) {
        let (from, to) = (up(window.from, width), window.to.align(width));
        let inner = Window::new(from.min(to), to);
        let kept = || conn.resolution(inner.from, inner.to, width) == width;
        if inner.length() >= WORTH * width && kept() {
            // The ends hold no bucket of this width whole.
            let finer = WIDTHS.into_iter().find(|w| *w < width).map_or(finest, |w| w.max(finest));
            let mut stretches = cut(conn, Window::new(window.from, inner.from), finest, finer);
            stretches.push(Stretch { window: inner, resolution: width });
            stretches.extend(cut(conn, Window::new(inner.to, window.to), finest, finer));
            return stretches;
        }
    }
    vec![Stretch { window, resolution: finest }]
}

fn up(time: Time, width: u64) -> Time {
    match time.align(width) {
        aligned if aligned == time => time,
        aligned => aligned.plus(width),
    }
}
