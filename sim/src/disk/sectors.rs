//! A set of sectors, as bits.

/// What a disk writes at a time, in bytes.
pub(super) const SECTOR: usize = 512;

/// A set of sector numbers.
#[derive(Debug, Default)]
pub(super) struct Sectors {
    words: Vec<u64>,
    len: usize,
}

impl Sectors {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds every sector that holds a byte of `from..to`.
    pub(super) fn insert_bytes(&mut self, from: usize, to: usize) {
        if from < to {
            for sector in from / SECTOR..=(to - 1) / SECTOR {
                self.insert(sector);
            }
        }
    }

    fn insert(&mut self, sector: usize) {
        let (word, bit) = (sector / 64, 1_u64 << (sector % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.len += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Removes all sectors from this number on.
    pub(super) fn truncate(&mut self, sectors: usize) {
        self.words.truncate(sectors.div_ceil(64));
        if let Some(last) = self.words.get_mut(sectors / 64) {
            *last &= (1 << (sectors % 64)) - 1;
        }
        self.len = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    /// Empties the set. Gives what it held as runs `from..to`, in order.
    pub(super) fn take_runs(&mut self) -> impl Iterator<Item = (usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        if self.len > 0 {
            for (index, word) in self.words.iter_mut().enumerate() {
                let mut bits = std::mem::take(word);
                while bits != 0 {
                    let sector = index * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    match runs.last_mut() {
                        Some((_, to)) if *to == sector => *to += 1,
                        _ => runs.push((sector, sector + 1)),
                    }
                }
            }
            self.len = 0;
        }
        runs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_whole_and_in_order() {
        let mut sectors = Sectors::default();
        sectors.insert_bytes(5 * SECTOR + 1, 5 * SECTOR + 2);
        sectors.insert_bytes(62 * SECTOR, 66 * SECTOR);
        sectors.insert_bytes(4 * SECTOR, 5 * SECTOR);
        sectors.insert_bytes(7, 7);
        assert_eq!(sectors.len(), 6);
        assert_eq!(sectors.take_runs().collect::<Vec<_>>(), [(4, 6), (62, 66)]);
        assert_eq!((sectors.len(), sectors.take_runs().count()), (0, 0));
    }

    #[test]
    fn truncation_removes_what_lies_beyond() {
        for cut in [0, 1, 63, 64, 65, 100, 200] {
            let mut sectors = Sectors::default();
            sectors.insert_bytes(0, 100 * SECTOR);
            sectors.truncate(cut);
            assert_eq!(sectors.len(), cut.min(100));
            assert_eq!(sectors.take_runs().next(), (cut > 0).then_some((0, cut.min(100))));
        }
    }
}
