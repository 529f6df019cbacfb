//! Medians and quartiles.

use serde_json::{Value, json};

/// What a series of measurements comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// A quarter of them is below this.
    pub lower: f64,
    /// Half of them is.
    pub median: f64,
    /// Three quarters are.
    pub upper: f64,
}

impl Summary {
    /// Of `values`, in any order; `NaN` throughout if there are none.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { lower: quantile(&sorted, 0.25), median: quantile(&sorted, 0.5), upper: quantile(&sorted, 0.75) }
    }

    /// Of what each of `values` is to the one of `bases` that was measured in the same round: what disturbed both does
    /// not disturb their ratio.
    pub fn of_ratios(values: &[f64], bases: &[f64]) -> Self {
        let ratios: Vec<_> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
        Self::of(&ratios)
    }

    /// As JSON.
    pub fn json(self) -> Value {
        json!({"lower_quartile": self.lower, "median": self.median, "upper_quartile": self.upper})
    }
}

/// The value below which the part `part` of `sorted` lies, interpolated between neighbours; `NaN` if there is none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let position = sorted.len().saturating_sub(1) as f64 * part;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(below), Some(above)) => below + (above - below) * position.fract(),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::{Summary, quantile};

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(summary, Summary { lower: 1.75, median: 2.5, upper: 3.25 });
    }

    #[test]
    fn the_quartiles_of_five_are_three_of_them() {
        let summary = Summary::of(&[50.0, 10.0, 40.0, 20.0, 30.0]);
        assert_eq!(summary, Summary { lower: 20.0, median: 30.0, upper: 40.0 });
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // 2/1, 6/2 and 20/10: their median is 2, while the ratio of the medians is 6/2.
        let summary = Summary::of_ratios(&[2.0, 6.0, 20.0], &[1.0, 2.0, 10.0]);
        assert_eq!(summary, Summary { lower: 2.0, median: 2.0, upper: 2.5 });
    }

    #[test]
    fn a_high_percentile_is_near_the_end() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((quantile(&values, 0.99) - 99.0).abs() < 1e-9);
        assert!((quantile(&[7.0], 0.99) - 7.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
