//! The planted bug of a run.

use std::cell::Cell;

use seedbed_core::runtime::{Mutant, Mutants};

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants this bug, instead of any other, in the run of this thread.
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

/// The bug that is planted in the run of this thread.
pub fn planted() -> Option<Mutant> {
    PLANTED.get()
}

/// The simulator's choice of planted bugs: at most one a run.
#[derive(Clone, Copy, Debug)]
pub enum SimMutants {}

impl Mutants for SimMutants {
    fn active(mutant: Mutant) -> bool {
        planted() == Some(mutant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_planted_is_active() {
        assert!(Mutant::ALL.into_iter().all(|mutant| !SimMutants::active(mutant)));
        plant(Some(Mutant::AckBeforeFsync));
        let active: Vec<_> = Mutant::ALL.into_iter().filter(|&mutant| SimMutants::active(mutant)).collect();
        assert_eq!(active, [Mutant::AckBeforeFsync]);
        plant(None);
    }
}
