//! What the pages of the database's file held when they were last seen.
//!
//! The database has a checksum over every page, and looks at it only when it is opened (and told to). A page that rots
//! afterwards would be served. So each page's checksum is kept in memory, from the first time that it is read (which the
//! check at the opening does for every page in use) or written, and held against what is read later.
//!
//! Four bytes for a page of four KiB. The database reads and writes whole pages, but for its header; what is not a whole
//! page is not looked at, and forgotten if written.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc32c::crc32c;

/// The least unit of the file.
pub(super) const PAGE_BYTES: usize = 4096;

/// A page of which nothing is known.
const UNKNOWN: u32 = 0;

/// The checksums of all pages.
#[derive(Debug, Default)]
pub(super) struct PageSums(Mutex<Vec<u32>>);

impl PageSums {
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file has this length now.
    pub(super) fn resize(&self, bytes: u64) {
        self.lock().resize(pages(bytes, 0).start, UNKNOWN);
    }

    /// This was written.
    pub(super) fn written(&self, offset: u64, data: &[u8]) {
        let pages = pages(offset, data.len());
        let sums = aligned(offset, data).map(|data| data.chunks_exact(PAGE_BYTES).map(sum).collect::<Vec<_>>());
        let mut known = self.lock();
        if known.len() < pages.end {
            known.resize(pages.end, UNKNOWN);
        }
        match sums {
            Some(sums) => known[pages].copy_from_slice(&sums),
            None => known[pages].fill(UNKNOWN),
        }
    }

    /// This was read.
    ///
    /// # Errors
    /// `InvalidData`, with the page's offset, if it is not what was there before.
    pub(super) fn read(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(data) = aligned(offset, data) else { return Ok(()) };
        let sums: Vec<_> = data.chunks_exact(PAGE_BYTES).map(sum).collect();
        let first = pages(offset, 0).start;
        let mut known = self.lock();
        if known.len() < first + sums.len() {
            known.resize(first + sums.len(), UNKNOWN);
        }
        for (page, sum) in (first..).zip(sums) {
            match known[page] {
                UNKNOWN => known[page] = sum,
                before if before == sum => {}
                _ => {
                    let message = format!("the page at byte {} is damaged: it was another before", page * PAGE_BYTES);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
        Ok(())
    }
}

/// Never [`UNKNOWN`].
fn sum(page: &[u8]) -> u32 {
    crc32c(page).max(UNKNOWN + 1)
}

/// The pages that a range of bytes touches.
fn pages(offset: u64, len: usize) -> Range<usize> {
    let (from, page) = (offset as usize, PAGE_BYTES);
    from / page..(from + len).div_ceil(page).max(from / page)
}

/// The data, if it is whole pages.
fn aligned(offset: u64, data: &[u8]) -> Option<&[u8]> {
    (offset.is_multiple_of(PAGE_BYTES as u64) && data.len().is_multiple_of(PAGE_BYTES)).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_another_than_before_is_noticed_with_its_place() {
        let sums = PageSums::default();
        let mut pages = vec![7; 3 * PAGE_BYTES];
        sums.written(0, &pages);
        sums.read(0, &pages).expect("as written");
        sums.read(PAGE_BYTES as u64, &pages[PAGE_BYTES..]).expect("as written");
        pages[2 * PAGE_BYTES + 17] ^= 4;
        let error = sums.read(PAGE_BYTES as u64, &pages[PAGE_BYTES..]).expect_err("a bit has flipped");
        assert!(error.to_string().contains("byte 8192"), "{error}");
        sums.written(0, &pages);
        sums.read(0, &pages).expect("as written anew");
    }

    #[test]
    fn what_was_read_first_is_the_measure() {
        let sums = PageSums::default();
        sums.read(0, &[1; PAGE_BYTES]).expect("never seen");
        sums.read(0, &[1; PAGE_BYTES]).expect("as before");
        sums.read(0, &[2; PAGE_BYTES]).expect_err("another");
    }

    #[test]
    fn what_is_no_whole_page_is_forgotten_and_so_is_what_was_cut() {
        let sums = PageSums::default();
        sums.written(0, &[1; 2 * PAGE_BYTES]);
        sums.written(10, &[2; 5]);
        sums.read(0, &[3; PAGE_BYTES]).expect("a part of it was written");
        sums.read(0, &[9; 320]).expect("no whole page");
        sums.resize(PAGE_BYTES as u64);
        sums.resize(2 * PAGE_BYTES as u64);
        sums.read(PAGE_BYTES as u64, &[0; PAGE_BYTES]).expect("it was cut off");
    }
}
