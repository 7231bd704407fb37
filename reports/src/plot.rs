//! Lines through points, in panels side by side, as SVG.

use std::ops::Range;

use plotters::prelude::*;

const PANEL: (u32, u32) = (420, 320);
const COLUMNS: usize = 2;
const TITLE: (&str, u32) = ("sans-serif", 15);
const LABEL: (&str, u32) = ("sans-serif", 11);
const COLOURS: [RGBColor; 4] =
    [RGBColor(0x1b, 0x9e, 0x77), RGBColor(0x1f, 0x78, 0xb4), RGBColor(0xd9, 0x5f, 0x02), RGBColor(0x75, 0x70, 0xb3)];

/// What the horizontal axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Each step doubles.
    Doubling,
}

impl Scale {
    fn place(self, x: f64) -> f64 {
        match self {
            Scale::Linear => x,
            Scale::Doubling => x.log2(),
        }
    }

    fn label(self, place: f64) -> String {
        match self {
            Scale::Linear => format!("{place:.0}"),
            Scale::Doubling => format!("{:.0}", place.exp2()),
        }
    }

    /// Where the legend covers no line: rates rise with the readers, and times lie either low or high.
    fn legend(self) -> SeriesLabelPosition {
        match self {
            Scale::Linear => SeriesLabelPosition::MiddleRight,
            Scale::Doubling => SeriesLabelPosition::LowerRight,
        }
    }
}

/// Panels with the same axes. The vertical one is logarithmic.
pub(crate) struct Plot {
    pub(crate) x: &'static str,
    pub(crate) scale: Scale,
    pub(crate) y: &'static str,
    pub(crate) panels: Vec<Panel>,
}

/// One panel.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

/// One line. Its points are in the order of x, and each y is positive.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot {
    /// The image. Panels share their axes, so that they can be compared.
    pub(crate) fn svg(&self) -> String {
        let points = || self.panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.points);
        let x = span(points().map(|(x, _)| self.scale.place(*x)));
        let y = span(points().map(|(_, y)| *y));
        // A single point spans nothing, and neither axis may be empty.
        let x = x.start - 0.5..x.end + 0.5;
        let y = y.start / 1.5..y.end * 1.5;
        let columns = COLUMNS.min(self.panels.len()).max(1);
        let rows = self.panels.len().div_ceil(columns).max(1);
        let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            root.fill(&WHITE).expect(TAKEN);
            for (area, panel) in root.split_evenly((rows, columns)).iter().zip(&self.panels) {
                self.draw(area, panel, x.clone(), y.clone());
            }
            root.present().expect(TAKEN);
        }
        svg
    }

    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        panel: &Panel,
        x: Range<f64>,
        y: Range<f64>,
    ) {
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, TITLE)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y.log_scale())
            .expect(TAKEN);
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|place| self.scale.label(*place))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .label_style(LABEL)
            .light_line_style(WHITE)
            .draw()
            .expect(TAKEN);
        for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
            let points = || line.points.iter().map(|(x, y)| (self.scale.place(*x), *y));
            chart
                .draw_series(LineSeries::new(points(), colour))
                .expect(TAKEN)
                .label(&line.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], *colour));
            chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled()))).expect(TAKEN);
        }
        chart
            .configure_series_labels()
            .position(self.scale.legend())
            .label_font(LABEL)
            .background_style(WHITE.mix(0.8))
            .draw()
            .expect(TAKEN);
    }
}

const TAKEN: &str = "a string takes whatever is drawn on it";

/// From the least to the greatest.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let all = values.fold(None, |span: Option<Range<f64>>, value| match span {
        Some(span) => Some(span.start.min(value)..span.end.max(value)),
        None => Some(value..value),
    });
    all.unwrap_or(1.0..1.0)
}
