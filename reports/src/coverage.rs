//! How often each fault took effect in a sweep, and how often two did in one run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// Fewer than this tell little.
const FEW: u64 = 50;
/// How many of the rarest are named in one line.
const NAMED: usize = 5;

/// What a sweep has tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// By family, and for crashes at points by point: how many faults took effect.
    families: BTreeMap<&'static str, u64>,
    /// By pair of families, in the order of their names: in how many runs both took effect.
    #[serde(skip)]
    pairs: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    /// These families may come together in a run.
    pub fn expect(&mut self, families: &[&'static str]) {
        for &family in families {
            self.families.entry(family).or_default();
        }
        for pair in pairs(families.to_vec()) {
            self.pairs.entry(pair).or_default();
        }
    }

    /// These took effect in a run, so many times each.
    pub fn add(&mut self, faults: &BTreeMap<&'static str, u64>) {
        for (&family, &count) in faults {
            *self.families.entry(family).or_default() += count;
        }
        for pair in pairs(faults.iter().filter(|(_, count)| **count > 0).map(|(&family, _)| family).collect()) {
            *self.pairs.entry(pair).or_default() += 1;
        }
    }

    /// Two lines, of faults and of pairs of them; nothing, if no fault is possible.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        if !self.families.is_empty() {
            let singles = self.families.iter().map(|(family, count)| (*count, (*family).to_owned()));
            let _ = writeln!(lines, "{}", line("faults", "took effect", singles.collect()));
        }
        if !self.pairs.is_empty() {
            let pairs = self.pairs.iter().map(|((one, other), count)| (*count, format!("{one} + {other}")));
            let _ = writeln!(lines, "{}", line("pairs of families", "met in a run", pairs.collect()));
        }
        lines
    }

    /// A table of the families, each with the pair that is the rarest.
    pub fn markdown(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["fault", "took effect", "rarest beside", "in so many runs"]);
        for (&family, count) in &self.families {
            let paired = paired(family);
            let beside = self.pairs.iter().filter_map(|(&(one, other), count)| match paired {
                _ if paired == one => Some((*count, other)),
                _ if paired == other => Some((*count, one)),
                _ => None,
            });
            let (runs, other) = beside.min().map_or((String::new(), ""), |(runs, other)| (runs.to_string(), other));
            table.add_row([family.to_owned(), count.to_string(), other.to_owned(), runs]);
        }
        for column in [1, 3] {
            table.column_mut(column).expect("there are four").set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// What a family is called in pairs: there, crashes at points are one.
fn paired(family: &'static str) -> &'static str {
    if family.starts_with("crash-at-") { "crash-at" } else { family }
}

/// All pairs of different families, each in the order of the names.
fn pairs(families: Vec<&'static str>) -> Vec<(&'static str, &'static str)> {
    let mut families: Vec<_> = families.into_iter().map(paired).collect();
    families.sort_unstable();
    families.dedup();
    let others = |nth: usize| families[nth + 1..].to_vec();
    families.iter().enumerate().flat_map(|(nth, &one)| others(nth).into_iter().map(move |other| (one, other))).collect()
}

/// How many there are, and which of them are rare.
fn line(what: &str, happened: &str, mut counted: Vec<(u64, String)>) -> String {
    counted.sort();
    let rare = counted.iter().take_while(|(count, _)| *count < FEW).count();
    let all = counted.len();
    let (least, rarest) = &counted[0];
    if rare == 0 {
        return format!(
            "coverage: {all} {what}, each {happened} {FEW} times or more, least of all {rarest}, {least} times"
        );
    }
    let named: Vec<String> =
        counted.iter().take(NAMED.min(rare)).map(|(count, name)| format!("{name} {count}")).collect();
    let more = if rare > NAMED { ", ..." } else { "" };
    format!("coverage: {all} {what}, {rare} of which {happened} fewer than {FEW} times: {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_possible_and_did_not_happen_is_said() {
        let mut coverage = Coverage::default();
        coverage.expect(&["pause", "crash", "halves"]);
        coverage.add(&BTreeMap::from([("crash", 60), ("pause", 2), ("halves", 0)]));
        assert_eq!(
            coverage.lines(),
            "coverage: 3 faults, 2 of which took effect fewer than 50 times: halves 0, pause 2\n\
             coverage: 3 pairs of families, 3 of which met in a run fewer than 50 times: \
             crash + halves 0, halves + pause 0, crash + pause 1\n"
        );
        let page = coverage.markdown();
        let row = page.lines().find(|line| line.contains("| crash")).expect("a row");
        assert!(row.contains("60") && row.contains("halves") && row.contains('0'), "{row}");
    }

    #[test]
    fn enough_of_everything_is_one_line_each() {
        let mut coverage = Coverage::default();
        coverage.expect(&["crash", "pause"]);
        (0..50).for_each(|_| coverage.add(&BTreeMap::from([("crash", 1), ("pause", 2)])));
        assert_eq!(
            coverage.lines(),
            "coverage: 2 faults, each took effect 50 times or more, least of all crash, 50 times\n\
             coverage: 1 pairs of families, each met in a run 50 times or more, least of all crash + pause, 50 times\n"
        );
        assert_eq!(Coverage::default().lines(), "");
    }
}
