//! How long clusters took to commit something again, once everything was healed.

use serde::Serialize;

/// The times of a sweep's runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// In milliseconds, in ascending order.
    times_ms: Vec<u64>,
    /// The scenario and the seed of the longest.
    longest: Option<(String, u64)>,
}

impl Recovery {
    /// One run's.
    pub fn add(&mut self, scenario: &str, seed: u64, ms: u64) {
        if self.times_ms.last().is_none_or(|longest| ms > *longest) {
            self.longest = Some((scenario.to_owned(), seed));
        }
        let place = self.times_ms.partition_point(|other| *other <= ms);
        self.times_ms.insert(place, ms);
    }

    /// The time within which so many of a hundred runs had recovered; `None` without runs.
    pub fn percentile_ms(&self, percent: usize) -> Option<u64> {
        let nth = (self.times_ms.len() * percent).div_ceil(100).max(1) - 1;
        self.times_ms.get(nth).copied()
    }

    /// The distribution in one line; nothing without runs.
    pub fn line(&self) -> String {
        let (Some((scenario, seed)), [Some(median), Some(p90), Some(p99), Some(longest)]) =
            (&self.longest, [50, 90, 99, 100].map(|percent| self.percentile_ms(percent)))
        else {
            return String::new();
        };
        format!(
            "healed to first commit: median {median} ms, 90 % within {p90} ms, 99 % within {p99} ms, longest {longest} ms \
             ({scenario} {seed})\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_that_of_all_runs() {
        let mut recovery = Recovery::default();
        assert_eq!(recovery.line(), "");
        for seed in 0..200 {
            recovery.add("crash", seed, (seed * 7) % 200);
        }
        assert_eq!(
            recovery.line(),
            "healed to first commit: median 99 ms, 90 % within 179 ms, 99 % within 197 ms, longest 199 ms (crash 57)\n"
        );
    }
}
