//! The read paths side by side: what a read takes, what it costs, and what it is worth under fault.
//!
//! The page has a table of everything, and a plot with a panel for each setting and a line for each path.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use comfy_table::{CellAlignment, Table, presets};

use crate::plot::{Line, Panel, Plot, Scale};

/// What was measured in one go.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadPaths {
    /// The name of the files, without folder and ending.
    pub name: String,
    /// The heading.
    pub title: String,
    /// How it was measured: a paragraph.
    pub how: String,
    /// What the plot shows.
    pub against: Against,
    /// In the order of the table.
    pub points: Vec<ReadPoint>,
}

/// The plot's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The rate against the number of readers.
    Readers,
    /// The time of a read against the time of an fsync.
    Fsync,
}

/// Reads by one path in one setting.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadPoint {
    /// Members of the cluster.
    pub members: u64,
    /// Who is asked: leader or follower.
    pub role: String,
    /// The path.
    pub path: String,
    /// What the path's reads are under fault: linearizable or not.
    pub verdict: String,
    /// Who read at the same time, each one read after the other.
    pub readers: u64,
    /// How long an fsync took; `None` if it was a real disk's.
    pub fsync: Option<Duration>,
    /// Writes a second meanwhile; `None` if nobody was to write.
    pub writes: Option<f64>,
    /// Reads a second: the median of the samples.
    pub rate: f64,
    /// The mean time of a read.
    pub mean: Duration,
    /// A hundredth of the reads took longer.
    pub p99: Duration,
    /// Reads without the answer that they should have had.
    pub failed: u64,
    /// What all of them cost.
    pub cost: ReadCost,
}

/// What reads cost, by the members' own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Reads that the member that was asked has served.
    pub reads: u64,
    /// Rounds that they shared.
    pub rounds: u64,
    /// Requests between members that were sent for reads alone.
    pub messages: u64,
    /// Syncs of logs that were made for reads alone.
    pub fsyncs: u64,
    /// Every sync of a member's log in that time, for whatever reason.
    pub all_fsyncs: u64,
    /// What all reads waited before they could read.
    pub waited: Duration,
    /// The processor time of all members in that time; `None` where there is no processor to speak of.
    pub cpu: Option<Duration>,
}

impl ReadPaths {
    /// The page.
    pub fn markdown(&self) -> String {
        let mut page = format!("# {}\n\n{}\n\n![{}]({}.svg)\n\n", self.title, self.how, self.title, self.name);
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "members",
            "asked",
            "path",
            "readers",
            "fsync",
            "writes/s",
            "reads/s",
            "mean",
            "p99",
            "failed",
            "reads",
            "rounds",
            "messages",
            "fsyncs for reads",
            "all fsyncs",
            "waited, mean",
            "CPU each",
            "under fault",
        ]);
        for point in &self.points {
            let ReadPoint { cost, .. } = point;
            let each = |sum: Duration| micros(sum.div_f64(cost.reads.max(1) as f64));
            table.add_row([
                point.members.to_string(),
                point.role.clone(),
                point.path.clone(),
                point.readers.to_string(),
                point.fsync.map_or_else(|| "real".to_owned(), |fsync| format!("{} ms", fsync.as_millis())),
                point.writes.map_or_else(|| "none".to_owned(), |writes| format!("{writes:.0}")),
                format!("{:.0}", point.rate),
                micros(point.mean),
                micros(point.p99),
                point.failed.to_string(),
                cost.reads.to_string(),
                cost.rounds.to_string(),
                cost.messages.to_string(),
                cost.fsyncs.to_string(),
                cost.all_fsyncs.to_string(),
                each(cost.waited),
                cost.cpu.map_or_else(|| "-".to_owned(), each),
                point.verdict.clone(),
            ]);
        }
        for column in table.column_iter_mut().skip(3).take(14) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let _ = writeln!(page, "{table}");
        page
    }

    /// The plot.
    pub fn svg(&self) -> String {
        let mut panels: Vec<Panel> = Vec::new();
        for point in &self.points {
            let plural = if point.members == 1 { "" } else { "s" };
            let writes = if point.writes.is_some() { ", with writes" } else { "" };
            let title = format!("{} member{plural}, {}{writes}", point.members, point.role);
            let panel =
                place(&mut panels, |panel| panel.title == title, || Panel { title: title.clone(), lines: vec![] });
            let name = &point.path;
            let line =
                place(&mut panel.lines, |line| line.name == *name, || Line { name: name.clone(), points: vec![] });
            line.points.push(match self.against {
                Against::Readers => (point.readers as f64, point.rate),
                Against::Fsync => (point.fsync.unwrap_or_default().as_secs_f64() * 1e3, point.mean.as_secs_f64() * 1e6),
            });
        }
        let (x, scale, y) = match self.against {
            Against::Readers => ("readers", Scale::Doubling, "reads a second"),
            Against::Fsync => ("fsync, ms", Scale::Linear, "time of a read, µs"),
        };
        Plot { x, scale, y, panels }.svg()
    }

    /// Writes page and plot into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// The file system's, with the path.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
        for (ending, text) in [("md", self.markdown()), ("svg", self.svg())] {
            let path = folder.join(format!("{}.{ending}", self.name));
            fs::write(&path, text)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }
}

/// The one that fits, which is added at the end if there is none.
fn place<T>(all: &mut Vec<T>, fits: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let at = all.iter().position(fits).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    });
    &mut all[at]
}

fn micros(duration: Duration) -> String {
    format!("{:.0} µs", duration.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(path: &str, readers: u64, rate: f64) -> ReadPoint {
        ReadPoint {
            members: 3,
            role: "leader".into(),
            path: path.into(),
            verdict: "linearizable".into(),
            readers,
            fsync: None,
            writes: None,
            rate,
            mean: Duration::from_micros(250),
            p99: Duration::from_millis(2),
            failed: 0,
            cost: ReadCost {
                reads: 40,
                rounds: 4,
                waited: Duration::from_millis(10),
                cpu: Some(Duration::from_millis(2)),
                ..ReadCost::default()
            },
        }
    }

    fn page() -> ReadPaths {
        ReadPaths {
            name: "reads".into(),
            title: "Reads".into(),
            how: "By hand.".into(),
            against: Against::Readers,
            points: vec![point("log", 1, 90.0), point("log", 128, 4000.0), point("lease", 1, 2000.0)],
        }
    }

    #[test]
    fn a_row_has_the_figures_beside_the_cost_and_the_verdict() {
        let page = page().markdown();
        let row = page.lines().find(|line| line.contains("4000")).expect("a row");
        let cells: Vec<_> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let expected = [
            "3",
            "leader",
            "log",
            "128",
            "real",
            "none",
            "4000",
            "250 µs",
            "2000 µs",
            "0",
            "40",
            "4",
            "0",
            "0",
            "0",
            "250 µs",
            "50 µs",
            "linearizable",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn the_plot_has_a_panel_for_each_setting_and_a_point_for_each_figure() {
        let mut page = page();
        page.points.push(ReadPoint { writes: Some(500.0), ..point("log", 16, 700.0) });
        let svg = page.svg();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert_eq!(svg.matches("3 members, leader").count(), 2, "{svg}");
        assert_eq!(svg.matches("with writes").count(), 1, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
    }

    #[test]
    fn page_and_plot_are_written_to_a_new_folder() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let out = folder.path().join("out");
        page().write(&out).expect("written");
        assert_eq!(fs::read_to_string(out.join("reads.md")).expect("the page"), page().markdown());
        assert_eq!(fs::read_to_string(out.join("reads.svg")).expect("the plot"), page().svg());
    }
}
