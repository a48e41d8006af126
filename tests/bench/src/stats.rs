//! What a list of measurements comes to. Pure.

/// Measurements of one thing, in order of size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Sample {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Sample(values)
    }
}

impl Sample {
    /// The smallest value that at least `percent` (0 to 100) of all are not above: nearest rank, never interpolated. NaN
    /// of an empty sample.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        let last = self.0.len().saturating_sub(1);
        let index = rank.saturating_sub(1).min(last);
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The value in the middle; of an even number the lower one of the two, which was really measured.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The largest.
    #[must_use]
    pub fn longest(&self) -> f64 {
        self.percentile(100.0)
    }

    /// How the values lie between two bounds, in a line of text: a letter for each of `width` equal parts, the higher
    /// the more of them fall into it.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub fn plot(&self, from: f64, to: f64, width: usize) -> String {
        const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let mut counts = vec![0_usize; width];
        for value in &self.0 {
            let part = ((value - from) / (to - from) * width as f64).max(0.0) as usize;
            if let Some(count) = counts.get_mut(part.min(width.saturating_sub(1))) {
                *count += 1;
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        counts
            .iter()
            .map(|count| HEIGHTS[(count * 8).div_ceil(most)])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        values.iter().copied().collect()
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred: Sample = (1..=100).rev().map(f64::from).collect();
        assert_eq!(hundred.percentile(50.0), 50.0);
        assert_eq!(hundred.percentile(99.0), 99.0);
        assert_eq!(hundred.longest(), 100.0);
        assert_eq!(hundred.percentile(0.0), 1.0);
        assert_eq!(sample(&[7.0]).percentile(99.0), 7.0);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(sample(&[4.0, 1.0, 2.0, 3.0]).median(), 2.0);
        assert!(sample(&[]).median().is_nan());
    }

    #[test]
    fn a_plot_shows_where_the_values_are() {
        assert_eq!(sample(&[1.0, 1.0, 9.0]).plot(0.0, 10.0, 5), "█   ▄");
        // What lies outside is at the edges.
        assert_eq!(sample(&[-1.0, 99.0]).plot(0.0, 10.0, 2), "██");
        assert_eq!(sample(&[]).plot(0.0, 1.0, 3), "   ");
    }
}
