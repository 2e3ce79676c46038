//! Conversions that cannot wrap: each one saturates, and says so in its name or its doc.

/// As `f64`; above 2^53 the nearest representable value.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest f64 is what is asked for")]
pub const fn f64_from(n: u64) -> f64 {
    n as f64
}

/// Truncates towards zero; negative and NaN become 0, too large becomes `u64::MAX`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
pub const fn u64_from_f64(x: f64) -> u64 {
    x as u64
}

/// Saturates at `u16::MAX`.
#[must_use]
pub fn u16_sat<T: TryInto<u16>>(n: T) -> u16 {
    n.try_into().unwrap_or(u16::MAX)
}

/// Saturates at `u32::MAX` (also for negative input, which no counter has).
#[must_use]
pub fn u32_sat<T: TryInto<u32>>(n: T) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}

/// Saturates at `u64::MAX` (also for negative input, which no counter has).
#[must_use]
pub fn u64_sat<T: TryInto<u64>>(n: T) -> u64 {
    n.try_into().unwrap_or(u64::MAX)
}

/// Saturates at `i64::MAX`.
#[must_use]
pub fn i64_sat<T: TryInto<i64>>(n: T) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// Saturates at `usize::MAX`.
#[must_use]
pub fn usize_sat<T: TryInto<usize>>(n: T) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}
