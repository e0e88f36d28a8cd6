//! A row: what is measured, and what the figures must be. Pure; measuring is the others' business.

use std::fmt;

use anyhow::Result;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Times each way, in turn.
    pub(crate) rounds: u32,
    /// Seconds of one measurement.
    pub(crate) seconds: u32,
}

/// One row of the table.
pub(crate) struct Row {
    /// "http keyword, saturated".
    pub(crate) name: &'static str,
    /// What its figures must be.
    pub(crate) targets: &'static [Target],
    /// Measures it.
    pub(crate) run: fn(&Effort) -> Result<Vec<Figure>>,
}

/// One measured figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// "native", "picket", "blackbox", or what it is: "resident".
    pub(crate) name: &'static str,
    /// "µs", "MiB", "/s", "s", "%"…
    pub(crate) unit: &'static str,
    /// Every measurement, in the order in which they were made.
    pub(crate) values: Vec<f64>,
}

impl Figure {
    /// One measurement.
    pub(crate) fn once(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, values: vec![value] }
    }

    /// The middle one, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.len(), sorted.len() / 2) {
            (0, _) => f64::NAN,
            (len, half) if len % 2 == 1 => sorted[half],
            (_, half) => f64::midpoint(sorted[half - 1], sorted[half]),
        }
    }

    /// Half of the distance between the smallest and the largest, in percent of the median.
    pub(crate) fn spread(&self) -> f64 {
        let (least, most) =
            self.values.iter().fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(*v), most.max(*v)));
        100.0 * (most - least) / 2.0 / self.median()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", rounded(self.median()), self.unit)?;
        if self.values.len() > 1 {
            write!(f, " ±{:.0} %", self.spread())?;
        }
        Ok(())
    }
}

/// What a figure, or what two of them together, must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Which.
    pub(crate) of: Of,
    /// How it is bounded.
    pub(crate) bound: Bound,
}

/// What is bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// A figure itself.
    Figure(&'static str),
    /// The first over the second.
    Ratio(&'static str, &'static str),
    /// The first less the second.
    Difference(&'static str, &'static str),
}

/// The bound, itself included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// From above.
    AtMost(f64),
    /// From below.
    AtLeast(f64),
}

impl Target {
    /// What was found, if its figures were measured.
    pub(crate) fn found(&self, figures: &[Figure]) -> Option<f64> {
        let median = |name| figures.iter().find(|figure| figure.name == name).map(Figure::median);
        match self.of {
            Of::Figure(name) => median(name),
            Of::Ratio(above, below) => Some(median(above)? / median(below)?),
            Of::Difference(more, less) => Some(median(more)? - median(less)?),
        }
    }

    /// Whether that is within the bound.
    pub(crate) fn is_met(&self, found: f64) -> bool {
        match self.bound {
            Bound::AtMost(most) => found <= most,
            Bound::AtLeast(least) => found >= least,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Of::Figure(name) => f.write_str(name)?,
            Of::Ratio(above, below) => write!(f, "{above} ÷ {below}")?,
            Of::Difference(more, less) => write!(f, "{more} − {less}")?,
        }
        match self.bound {
            Bound::AtMost(most) => write!(f, " ≤ {}", rounded(most)),
            Bound::AtLeast(least) => write!(f, " ≥ {}", rounded(least)),
        }
    }
}

/// Three digits, or all in front of the point.
pub(crate) fn rounded(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Vec<Figure> {
        vec![
            Figure { name: "native", unit: "µs", values: vec![20.0, 10.0, 12.0] },
            Figure { name: "picket", unit: "µs", values: vec![24.0, 30.0] },
        ]
    }

    #[test]
    fn the_median_and_the_spread_are_of_all_measurements() {
        let [native, picket] = &figures()[..] else { panic!() };
        assert_eq!((native.median(), picket.median()), (12.0, 27.0));
        assert_eq!(native.to_string(), "12.0 µs ±42 %");
        assert_eq!(Figure::once("x", "s", 0.25).to_string(), "0.25 s");
    }

    #[test]
    fn a_target_is_met_or_not_and_says_nothing_without_its_figures() {
        let check = |of, bound, found: Option<(f64, bool)>| {
            let target = Target { of, bound };
            assert_eq!(target.found(&figures()).map(|v| (v, target.is_met(v))), found, "{target}");
        };
        check(Of::Ratio("picket", "native"), Bound::AtMost(2.25), Some((2.25, true)));
        check(Of::Difference("picket", "native"), Bound::AtMost(12.0), Some((15.0, false)));
        check(Of::Figure("picket"), Bound::AtLeast(27.5), Some((27.0, false)));
        check(Of::Ratio("blackbox", "picket"), Bound::AtLeast(12.0), None);
    }
}
