//! Which seeds: `A..B`, and the share of a shard `i/n`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Seeds from the first up to, and without, the last: `A..B` as in Rust, or `N` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<u64>().map_err(|error| format!("`{part}` is not a seed ({error})"));
        let range = match text.split_once("..") {
            Some((first, end)) => number(first)?..number(end)?,
            None => {
                let seed = number(text)?;
                seed..seed.checked_add(1).ok_or("the greatest seed cannot be part of a range")?
            }
        };
        if range.is_empty() {
            return Err(format!("no seed is in {}..{}: the end is not part of a range", range.start, range.end));
        }
        Ok(Seeds(range))
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.start, self.0.end)
    }
}

/// One of `of` equal shares of the seeds: those that leave `index` when divided by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u64,
    of: u64,
}

impl Shard {
    /// The only share of one.
    pub(crate) const ALL: Shard = Shard { index: 0, of: 1 };

    /// How many seeds of a range are part of the share.
    pub(crate) fn count(self, seeds: &Range<u64>) -> u64 {
        let below = |end: u64| end / self.of + u64::from(end % self.of > self.index);
        below(seeds.end) - below(seeds.start)
    }

    /// The seeds of a range that are part of the share, ascending. None of the others is looked at: there may be very
    /// many of them.
    pub(crate) fn seeds(self, seeds: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let end = seeds.end;
        let rest = seeds.start % self.of;
        let ahead = if rest <= self.index { self.index - rest } else { self.of - (rest - self.index) };
        let first = seeds.start.checked_add(ahead);
        std::iter::successors(first, move |seed| seed.checked_add(self.of)).take_while(move |seed| *seed < end)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if index < of => Ok(Shard { index, of }),
            _ => Err("a shard is i/n with 0 <= i < n, for instance 0/4".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_before_its_end_and_a_number_is_one_seed() {
        assert_eq!("3..7".parse(), Ok(Seeds(3..7)));
        assert_eq!("5".parse(), Ok(Seeds(5..6)));
        assert_eq!("0..1".parse::<Seeds>().map(|seeds| seeds.to_string()), Ok("0..1".to_owned()));
    }

    #[test]
    fn malformed_and_empty_ranges_are_refused() {
        for text in ["", "..", "1..", "..4", "4..4", "7..3", "-1", "a..b", "1...3", "1..=3", "18446744073709551615"] {
            assert!(text.parse::<Seeds>().is_err(), "{text}");
        }
    }

    #[test]
    fn shards_share_the_seeds_without_gap_or_overlap() {
        let shards: Vec<Shard> = (0..3).map(|i| format!("{i}/3").parse().expect("a shard")).collect();
        for range in [0..100, 7..8, 5..17, 4..6] {
            let mut shared: Vec<u64> = Vec::new();
            for shard in &shards {
                let seeds: Vec<u64> = shard.seeds(&range).collect();
                assert!(seeds.is_sorted() && seeds.len() as u64 == shard.count(&range), "{seeds:?} of {range:?}");
                shared.extend(seeds);
            }
            shared.sort_unstable();
            assert_eq!(shared, range.collect::<Vec<_>>());
        }
        // Seeds keep their shard whatever the range.
        assert_eq!(shards[1].seeds(&(5..12)).collect::<Vec<_>>(), [7, 10]);
        for text in ["3/3", "0/0", "1", "/", "a/2", "-1/2", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    /// Each of these would take centuries if it passed by all seeds of the range.
    #[test]
    fn a_share_of_all_seeds_is_found_at_once() {
        let all = 0..u64::MAX;
        let seeds = |shard: &str| shard.parse::<Shard>().expect("a shard").seeds(&all);
        assert_eq!(seeds("18446744073709551613/18446744073709551615").collect::<Vec<_>>(), [u64::MAX - 2]);
        let half = u64::MAX / 2;
        assert_eq!(seeds(&format!("{}/{half}", half - 1)).collect::<Vec<_>>(), [half - 1, 2 * half - 1]);
        assert_eq!(seeds("999999999999/1000000000000").nth(2), Some(2_999_999_999_999));
    }
}
