//! Durations as etcd's flags have them, which is as Go has them.

use std::time::Duration;

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads for instance `10h`, `1h30m` or `1.5h`. `None` if it is none, or longer than a century.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += value.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    const CENTURY: f64 = 100.0 * 366.0 * 24.0 * 3600.0;
    (!text.is_empty() && total <= CENTURY).then(|| Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let cases = [
            ("10h", 36_000_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("2m0.5s", 120_500),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        for text in ["", "10", "h", "1 h", "-1h", "1h-", "1.2.3s", "1d", "1e3s", "99999999999h", "10hh", "１h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
