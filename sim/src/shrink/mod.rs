//! From a sequence that fails to a small one that fails too (Zeller and Hildebrandt, "Simplifying and isolating
//! failure-inducing input", 2002).
//!
//! ```text
//!   1 2 3 4 5 6 7 8      fails
//!   . . . . 5 6 7 8      halves are taken out: passes
//!   1 2 3 4 . . . .      fails, and is kept
//!   1 2 . .              then quarters, and so on down to single elements: passes
//!   . . 3 4              fails
//!   . 3 .  4             ...
//! ```
//!
//! What is left fails, and no longer does when any one element is taken out or replaced by something simpler. `fails`
//! has to judge alike each time, so it must start from the same state.
//!
//! [`plan`] applies it to plans, and [`fingerprint`] says which failures are the same.

pub mod fingerprint;
pub mod plan;

/// Takes elements out, as long as the rest fails.
///
/// # Panics
/// If the sequence does not fail.
pub fn shortest<T: Clone>(sequence: &[T], fails: &mut impl FnMut(&[T]) -> bool) -> Vec<T> {
    assert!(fails(sequence), "a sequence that does not fail cannot be shrunk");
    shortest_by(sequence, |mut candidates| Iterator::find(&mut candidates, |(_, rest)| fails(rest)))
}

/// Where something was taken out of a sequence, and what is left of it.
pub type Rest<T> = (usize, Vec<T>);

/// Takes elements out of a sequence that fails, as [`shortest`] does. `first` gives the first of its candidates, in
/// their order, that fails; it may try many at a time.
pub fn shortest_by<T: Clone>(
    sequence: &[T],
    mut first: impl FnMut(&mut dyn Iterator<Item = Rest<T>>) -> Option<Rest<T>>,
) -> Vec<T> {
    let mut kept = sequence.to_vec();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut taken = false;
        while at < kept.len() {
            let mut candidates = (at..kept.len()).step_by(size).map(|from| {
                let mut rest = kept.clone();
                rest.drain(from..kept.len().min(from + size));
                (from, rest)
            });
            let Some((from, rest)) = first(&mut candidates) else { break };
            kept = rest;
            at = from;
            taken = true;
        }
        // One that is taken out may have been all that another one was needed for.
        if size > 1 || !taken {
            size /= 2;
        }
    }
    kept
}

/// Replaces each element by the first of `simpler(element)` that fails in its place, for as long as there is one.
///
/// `simpler` must lead to an end: following it, no element comes again.
pub fn simplest<T: Clone>(
    sequence: &[T],
    simpler: impl Fn(&T) -> Vec<T>,
    fails: &mut impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut kept = sequence.to_vec();
    for at in 0..kept.len() {
        while let Some(simplified) = simpler(&kept[at]).into_iter().find_map(|candidate| {
            let mut sequence = kept.clone();
            sequence[at] = candidate;
            fails(&sequence).then_some(sequence)
        }) {
            kept = simplified;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_needs_is_left() {
        let sequence: Vec<u32> = (0..1000).collect();
        let needed = [3, 500, 501, 999];
        let mut tries = 0;
        let mut fails = |part: &[u32]| {
            tries += 1;
            needed.iter().all(|element| part.contains(element))
        };
        assert_eq!(shortest(&sequence, &mut fails), needed);
        assert!(tries < 150, "{tries} tries");
    }

    #[test]
    fn order_and_repetition_are_kept() {
        // Fails if a 1 comes after two 2s.
        let mut fails = |part: &[u32]| {
            let mut twos = 0;
            part.iter().any(|element| {
                twos += u32::from(*element == 2);
                *element == 1 && twos >= 2
            })
        };
        assert_eq!(shortest(&[1, 2, 3, 2, 1, 2, 1], &mut fails), [2, 2, 1]);
    }

    #[test]
    fn an_element_that_only_a_later_one_needed_goes_as_well() {
        // 8 is harmful without the 1 that comes before it; neither is needed.
        let mut fails = |part: &[u32]| part.contains(&5) && (part.contains(&1) || !part.contains(&8));
        assert_eq!(shortest(&[1, 8, 5], &mut fails), [5]);
    }

    #[test]
    fn a_failure_without_a_cause_in_the_sequence_leaves_nothing() {
        assert_eq!(shortest(&[1, 2, 3], &mut |_| true), [0; 0]);
    }

    #[test]
    #[should_panic(expected = "does not fail")]
    fn a_sequence_that_passes_is_not_shrunk() {
        shortest(&[1], &mut |_| false);
    }

    #[test]
    fn elements_become_as_simple_as_the_failure_allows() {
        let mut fails = |part: &[u32]| part.len() == 2 && part[0] >= 7 && part[1] >= 1;
        let simpler =
            |element: &u32| vec![element / 2, element.saturating_sub(1)].into_iter().filter(|s| s < element).collect();
        assert_eq!(simplest(&[100, 33], simpler, &mut fails), [7, 1]);
    }
}
