//! Random streams: one for each component of a run, all derived from its seed.
//!
//! Each component (a link, a disk, a client, the nemesis) draws from a stream of its own, so that taking one fault or one
//! message away does not reshuffle what everything else draws: shrinking depends on it. The generator and the way a draw
//! becomes a number are specified here, so that a seed means the same on every platform and with every release of `rand`.

use rand::Rng;
use rand_pcg::Pcg64;

/// The stream of one component: `index` tells components of the same name apart.
pub fn stream(seed: u64, component: &str, index: u64) -> Pcg64 {
    // FNV-1a: short names, and no need for more than telling them apart.
    let name = component
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut state = seed;
    let mut words = [name, index, !name, !index].map(|word| {
        state = splitmix(state ^ word);
        state
    });
    // Seeds that differ in one bit must not leave the streams related: every word depends on all the inputs.
    for word in &mut words {
        state = splitmix(state ^ *word);
        *word = state;
    }
    let [a, b, c, d] = words.map(u128::from);
    Pcg64::new(a << 64 | b, c << 64 | d)
}

/// Vigna's SplitMix64: a bijection in which every input bit reaches every output bit.
fn splitmix(input: u64) -> u64 {
    let z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws whose values are ours to specify. Each takes exactly one word from the generator.
pub trait Draw: Rng {
    /// A number in `low..=high`. The bias is below one in 2⁶⁴ / (high − low).
    fn between(&mut self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high, "an empty range: {low}..={high}");
        let span = u128::from(high - low) + 1;
        low + ((u128::from(self.next_u64()) * span) >> 64) as u64
    }

    /// True `permille` times in a thousand.
    fn chance(&mut self, permille: u32) -> bool {
        self.between(0, 999) < u64::from(permille)
    }

    /// One of the choices, all alike. There has to be at least one.
    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.between(0, choices.len() as u64 - 1) as usize]
    }
}

impl<R: Rng + ?Sized> Draw for R {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_every_time_and_everywhere() {
        assert_eq!(stream(1, "disk", 0).next_u64(), stream(1, "disk", 0).next_u64());
        // A changed derivation would change what every seed means.
        assert_eq!(stream(7, "disk", 2).next_u64(), 1_405_757_631_271_563_123);
    }

    #[test]
    fn streams_differ_in_every_part_of_their_name() {
        let first = stream(1, "disk", 0).next_u64();
        for mut other in [stream(2, "disk", 0), stream(1, "link", 0), stream(1, "disk", 1)] {
            assert_ne!(first, other.next_u64());
        }
    }

    #[test]
    fn draws_reach_both_ends_and_nothing_beyond() {
        let mut rng = stream(3, "test", 0);
        let mut seen = [0_u32; 4];
        for _ in 0..4000 {
            seen[(rng.between(10, 13) - 10) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert!(!rng.chance(0));
        assert!(rng.chance(1000));
    }
}
