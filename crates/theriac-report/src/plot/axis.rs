//! One axis: its range, its ticks and what it measures.

use crate::words::plain;

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Where the ticks are and what they say, in rising order.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Fractions, shown in percent, over a range that holds all `values` and no more than it needs.
    pub fn percent(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = bounds(values).unwrap_or((0.0, 1.0));
        // A band of a tenth of a point must not look like an abyss: at least five points are shown.
        if high - low < 0.05 {
            let middle = (low + high) / 2.0;
            (low, high) = (middle - 0.025, middle + 0.025);
        }
        let step = nice_step((high - low) / 5.0);
        low = (low / step).floor() * step;
        high = (high / step).ceil() * step;
        let (low, high) = (low.max(0.0), high.min(1.0));
        Self::stepped(label, low, high, step)
    }

    /// Fractions from 0 to 100 %.
    pub fn whole_percent(label: &str) -> Self {
        Self::stepped(label, 0.0, 1.0, 0.2)
    }

    /// Differences of fractions, shown in points, with zero inside.
    pub fn points(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 0.0));
        let (low, high) = (low.min(-0.01), high.max(0.01));
        let step = nice_step((high - low) / 4.0);
        Self::stepped(label, (low / step).floor() * step, (high / step).ceil() * step, step)
    }

    fn stepped(label: &str, low: f64, high: f64, step: f64) -> Self {
        let count = ((high - low) / step + 1e-9).floor() as usize;
        let first = (low / step - 1e-9).ceil() * step;
        let ticks = (0..=count).map(|index| first + step * index as f64).filter(|tick| *tick <= high + 1e-9);
        let write = |value: f64| {
            let percent = value * 100.0;
            let digits = if step < 0.0099 { 1 } else { 0 };
            let text = format!("{percent:.digits$}");
            if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') { "0".to_owned() } else { text }
        };
        let ticks = ticks.map(|tick| (tick, write(tick))).collect();
        Self { label: label.to_owned(), low, high, logarithmic: false, ticks }
    }

    /// A parameter, with a tick at each of its `values`; logarithmic, and said to be so, when they span more than a decade.
    pub fn swept(label: &str, values: &[f64]) -> Self {
        let (low, high) = bounds(values.iter().copied()).unwrap_or((0.0, 1.0));
        let logarithmic = low > 0.0 && high / low > 10.0;
        let (low, high) = if logarithmic {
            let margin = (high / low).powf(0.05);
            (low / margin, high * margin)
        } else {
            let margin = ((high - low) * 0.05).max(f64::EPSILON);
            (low - margin, high + margin)
        };
        let ticks = values.iter().map(|value| (*value, plain(*value))).collect();
        let scale = if logarithmic { " (log scale)" } else { "" };
        Self { label: format!("{label}{scale}"), low, high, logarithmic, ticks }
    }

    /// Epochs or rounds from 1 to `last`.
    pub fn turns(label: &str, last: usize) -> Self {
        let last = last.max(2);
        Self { low: 0.8, high: last as f64 + 0.2, ..Self::whole_numbers(label, 1, last) }
    }

    /// Whole numbers from 0 to `last`.
    pub fn counts(label: &str, last: usize) -> Self {
        Self::whole_numbers(label, 0, last.max(1))
    }

    fn whole_numbers(label: &str, first: usize, last: usize) -> Self {
        let step =
            [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].into_iter().find(|step| last / step <= 10).unwrap_or(2000);
        let multiples = (first..=last).filter(|number| number % step == 0);
        let ticks = multiples.map(|number| (number as f64, number.to_string())).collect();
        Self { label: label.to_owned(), low: first as f64, high: last as f64, logarithmic: false, ticks }
    }

    /// Numbers in whatever unit they have, from `low` to `high`, with round ticks inside.
    pub fn numbers(label: &str, low: f64, high: f64) -> Self {
        // A range of no width, or of one too small for its place on the number line, becomes one that can be drawn.
        let span = (high - low).max(low.abs() * 1e-9).max(1e-300);
        if high <= low {
            let ticks = vec![(low, plain(low))];
            return Self { label: label.to_owned(), low, high: low + span, logarithmic: false, ticks };
        }
        let scale = 10f64.powf((span / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0].map(|step| step * scale).into_iter().find(|step| span / step <= 4.0);
        let step = step.unwrap_or(10.0 * scale);
        let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (low / step).ceil();
        let multiples = (0..5).map(|index| (first + f64::from(index)) * step).filter(|tick| *tick <= low + span);
        let write = |tick: f64| if tick.abs() >= 1e6 { format!("{tick:e}") } else { format!("{tick:.digits$}") };
        let ticks = multiples.map(|tick| (tick, write(tick))).collect();
        Self { label: label.to_owned(), low, high: low + span, logarithmic: false, ticks }
    }

    /// The ends.
    pub fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Whether `value` lies between the ends.
    pub fn holds(&self, value: f64) -> bool {
        (self.low - 1e-9..=self.high + 1e-9).contains(&value)
    }

    /// Where `value` stands between the ends, from 0 to 1; values outside stand at the end.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.clamp(0.0, 1.0)
    }
}

fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

fn nice_step(rough: f64) -> f64 {
    let steps = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5];
    steps.into_iter().find(|step| *step >= rough - 1e-9).unwrap_or(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let narrow = Axis::percent("", [0.981, 0.985]);
        assert_eq!((texts(&narrow).first(), texts(&narrow).last()), (Some(&"95"), Some(&"100")));
        assert_eq!(texts(&Axis::whole_percent("")), ["0", "20", "40", "60", "80", "100"]);
        assert!(texts(&Axis::points("", [-0.02, 0.9])).contains(&"0"));
        assert_eq!(texts(&Axis::turns("epoch", 6)), ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(texts(&Axis::counts("", 125)), ["0", "20", "40", "60", "80", "100", "120"]);
        assert_eq!(texts(&Axis::turns("epoch", 50)), ["5", "10", "15", "20", "25", "30", "35", "40", "45", "50"]);
    }

    #[test]
    fn more_than_a_decade_is_logarithmic() {
        let axis = Axis::swept("rate", &[0.001, 0.01, 0.1]);
        assert!((axis.place(0.01) - 0.5).abs() < 1e-9);
        assert_eq!(axis.label, "rate (log scale)");
        assert!(axis.holds(0.1) && !axis.holds(0.2));
        let axis = Axis::swept("rate", &[0.0, 0.5, 1.0]);
        assert!((axis.place(0.5) - 0.5).abs() < 1e-9);
        assert_eq!(axis.label, "rate");
    }

    #[test]
    fn numbers_have_round_ticks_at_every_scale() {
        assert_eq!(texts(&Axis::numbers("", -0.3, 1.1)), ["0.0", "0.5", "1.0"]);
        assert_eq!(texts(&Axis::numbers("", 12.0, 431.0)), ["200", "400"]);
        assert_eq!(texts(&Axis::numbers("", 0.001, 0.0046)), ["0.001", "0.002", "0.003", "0.004"]);
        assert!(Axis::numbers("", 3.0, 3.0).place(3.0).is_finite());
        assert_eq!(texts(&Axis::numbers("", 0.0, 0.0)), ["0"], "one value, one tick");
    }

    #[test]
    fn one_value_does_not_break_an_axis() {
        assert!(Axis::swept("rate", &[0.1]).place(0.1).is_finite());
        assert!(Axis::percent("", []).place(0.1).is_finite());
    }
}
