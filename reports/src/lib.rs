//! Turns results into pages.
