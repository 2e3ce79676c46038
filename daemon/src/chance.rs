//! What chance explains: when a count is out of line with what was to be expected, and when two
//! samples differ more than two of one population would.

use coral_model::num::f64_from;

/// Standard deviations of a Poisson count beyond which it is no chance.
const SIGMAS: f64 = 4.0;
/// Beyond them still: where nothing or next to nothing was expected, two are a coincidence.
const LEAST: f64 = 3.0;

/// Whether `count` rare events, where `expected` were, are more than chance explains: beyond four
/// standard deviations of a Poisson count, and never fewer than three.
#[must_use]
pub fn beyond(count: u64, expected: f64) -> bool {
    f64_from(count) >= expected + SIGMAS * expected.sqrt() + LEAST
}

/// Probability that two samples of one population differ as much: `x` of `n` against `y` of `m`.
///
/// The two-proportion z test with pooled variance and continuity correction (Fleiss, *Statistical
/// Methods for Rates and Proportions*, 3rd ed., 3.2), and Fisher's exact test where fewer than five would
/// be expected in a cell.
#[must_use]
pub fn chance([x, y]: [u64; 2], [n, m]: [u64; 2]) -> f64 {
    if n == 0 || m == 0 {
        return 1.0;
    }
    let (a, b, big_n, big_m) = (f64_from(x), f64_from(y), f64_from(n), f64_from(m));
    let pooled = (a + b) / (big_n + big_m);
    let smallest = pooled.min(1.0 - pooled) * big_n.min(big_m);
    if smallest < 5.0 {
        return fisher([x, y], [n, m]);
    }
    let spread = (pooled * (1.0 - pooled) * (1.0 / big_n + 1.0 / big_m)).sqrt();
    let correction = 0.5 * (1.0 / big_n + 1.0 / big_m);
    let z = ((a / big_n - b / big_m).abs() - correction).max(0.0) / spread;
    erfc(z / std::f64::consts::SQRT_2)
}

/// Fisher's exact test, two-sided: all tables at most as likely as the one at hand.
fn fisher([x, y]: [u64; 2], [n, m]: [u64; 2]) -> f64 {
    let k = x + y;
    let total = ln_choose(n + m, k);
    let table = |i: u64| (ln_choose(n, i) + ln_choose(m, k - i) - total).exp();
    let here = table(x) * (1.0 + 1e-7);
    let (first, last) = (k.saturating_sub(m), k.min(n));
    // Where many tables are possible, those beyond this many on either side weigh nothing.
    let (first, last) = (first.max(x.saturating_sub(2_000)), last.min(x + 2_000));
    (first..=last).map(table).filter(|p| *p <= here).sum::<f64>().min(1.0)
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n.saturating_sub(k))
}

/// Stirling's series; exact to 1e-10 from 10 on, summed below.
fn ln_factorial(n: u64) -> f64 {
    if n < 10 {
        return (2..=n).map(|i| f64_from(i).ln()).sum();
    }
    let x = f64_from(n);
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x)
        - 1.0 / (360.0 * x.powi(3))
        + 1.0 / (1260.0 * x.powi(5))
}

/// The complementary error function for x ≥ 0, to 1.2e-7 of its value (Press et al., *Numerical
/// Recipes in C*, 2nd ed., 6.2).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x);
    const TERMS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let series = TERMS.iter().fold(0.0, |sum, term| sum * t + term);
    t * (-x * x + series).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_chance_and_many_are_not() {
        assert!(!beyond(2, 0.0) && beyond(3, 0.0));
        assert!(!beyond(7, 1.0) && beyond(8, 1.0));
        assert!(!beyond(142, 100.0) && beyond(143, 100.0));
    }

    #[test]
    fn chance_is_what_the_books_say() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.002 * b.max(1e-9) + 1e-9, "{a} {b}");
        // scipy.stats.fisher_exact([[8, 2], [1, 5]]) and [[3, 1], [1, 3]].
        near(fisher([8, 1], [10, 6]), 0.034_965);
        near(fisher([3, 1], [4, 4]), 0.485_714);
        near(erfc(1.0), 0.157_299_2);
        near(erfc(3.0), 2.209_05e-5);
        // z = 1.96 is five in a hundred.
        near(erfc(1.959_964 / std::f64::consts::SQRT_2), 0.05);
        assert_eq!(chance([0, 0], [10, 0]), 1.0);
        assert!(chance([50, 5], [100, 1000]) < 1e-20);
        assert!(chance([5, 50], [100, 1000]) > 0.9);
    }
}
