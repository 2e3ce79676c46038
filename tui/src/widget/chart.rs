//! Bars over time, in eighths of a cell.
//!
//! A bucket without traffic, a bucket nobody watched and a bucket that may still grow all look
//! different from one another and from every value.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::Canvas;
use crate::theme::Role;

const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// A moment to point out below the curve.
#[derive(Clone, Copy, Debug)]
pub struct Marker {
    /// Position along the axis, 0..=1.
    pub at: f64,
    /// How it looks.
    pub role: Role,
}

/// One value per bucket, drawn as bars.
pub struct Bars<'a> {
    /// Values, oldest first; `None` was not observed.
    pub values: &'a [Option<f64>],
    /// Value at the top of the area.
    pub top: f64,
    /// How bars look.
    pub style: Style,
    /// The youngest bucket may still grow.
    pub provisional: bool,
    /// Moments to draw as a line through the area.
    pub markers: &'a [Marker],
}

/// A round value to stand at the top of an axis, little above the largest.
#[must_use]
pub fn scale_top(max: f64) -> f64 {
    if !max.is_finite() || max <= 0.0 {
        return 1.0;
    }
    let magnitude = 10_f64.powf(max.log10().floor());
    [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|m| m * magnitude)
        .find(|t| *t >= max)
        .unwrap_or(max)
}

#[expect(clippy::cast_precision_loss, reason = "columns of a screen")]
fn share(i: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { i as f64 / of as f64 }
}

impl Bars<'_> {
    /// The value of one of `columns` columns: the largest of the buckets that fall into it, so
    /// that a peak is never averaged away.
    fn column(&self, i: usize, columns: usize) -> (Option<f64>, bool) {
        let n = self.values.len();
        if n == 0 {
            return (None, false);
        }
        let from = i * n / columns;
        let to = ((i + 1) * n / columns).max(from + 1).min(n);
        let slice = self.values.get(from..to).unwrap_or_default();
        let value = slice.iter().flatten().copied().reduce(f64::max);
        (value, self.provisional && to == n)
    }

    /// Draws into `area`, newest bucket at its right edge.
    pub fn draw(&self, canvas: &mut Canvas<'_>, area: Rect) {
        let columns = usize::from(area.width);
        if columns == 0 || area.height == 0 {
            return;
        }
        let dim = canvas.style(Role::Dim);
        let provisional = canvas.style(Role::Provisional);
        for marker in self.markers {
            let x = coral_model::num::u64_from_f64(marker.at * f64::from(area.width));
            let x = area.x + coral_model::num::u16_sat(x).min(area.width - 1);
            let style = canvas.style(marker.role);
            for y in area.top()..area.bottom() {
                canvas.mark(x, y, "┊", style);
            }
        }
        for i in 0..columns {
            let x = area.x + coral_model::num::u16_sat(i);
            let (value, young) = self.column(i, columns);
            let style = if young { provisional } else { self.style };
            let Some(value) = value else {
                canvas.mark(x, area.bottom() - 1, "·", dim);
                continue;
            };
            if value <= 0.0 {
                canvas.mark(x, area.bottom() - 1, "▁", dim);
                continue;
            }
            let full = f64::from(area.height) * 8.0;
            let filled = (value / self.top).clamp(0.0, 1.0) * full;
            let mut eighths = coral_model::num::u64_from_f64(filled.round()).max(1);
            for y in (area.top()..area.bottom()).rev() {
                if eighths == 0 {
                    break;
                }
                let here = usize::try_from(eighths.min(8)).unwrap_or(8);
                let symbol = if young && here == 8 {
                    "▒"
                } else {
                    EIGHTHS.get(here).copied().unwrap_or("█")
                };
                canvas.mark(x, y, symbol, style);
                eighths -= eighths.min(8);
            }
        }
    }

    /// One line of text with a bar per bucket, for table cells.
    #[must_use]
    pub fn spark(values: &[Option<f64>], columns: usize) -> String {
        let top = values.iter().flatten().copied().fold(0.0, f64::max);
        let n = values.len();
        let columns = columns.min(n);
        (0..columns)
            .map(|i| {
                let from = i * n / columns;
                let to = ((i + 1) * n / columns).max(from + 1).min(n);
                let slice = values.get(from..to).unwrap_or_default();
                match slice.iter().flatten().copied().reduce(f64::max) {
                    None => "·",
                    Some(v) if v <= 0.0 || top <= 0.0 => "▁",
                    Some(v) => {
                        // Never the full height: lines of text stand right above one another.
                        let step = coral_model::num::u64_from_f64((v / top * 6.0).ceil());
                        EIGHTHS
                            .get(usize::try_from(step.clamp(1, 6)).unwrap_or(6))
                            .copied()
                            .unwrap_or("▆")
                    }
                }
            })
            .collect()
    }
}

/// Position of bucket `i` of `n` along an axis, 0..=1.
#[must_use]
pub fn position(i: usize, n: usize) -> f64 {
    share(i, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert!((scale_top(118.0) - 120.0).abs() < 1e-9);
        assert!((scale_top(0.031) - 0.04).abs() < 1e-9);
        assert!((scale_top(0.0) - 1.0).abs() < 1e-9);
        assert!((scale_top(f64::NAN) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn sparks_keep_peaks_and_show_gaps() {
        let values = [Some(1.0), Some(8.0), None, None, Some(0.0), Some(4.0)];
        assert_eq!(Bars::spark(&values, 6), "▁▆··▁▃");
        assert_eq!(Bars::spark(&values, 3), "▆·▃");
        assert_eq!(Bars::spark(&[], 3), "");
    }
}
