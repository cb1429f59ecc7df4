/// The middle of the samples; `None` if there are none.
pub(crate) fn median(samples: &mut [f64]) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

/// What `measured` costs over `bare`, as a multiple of what `yardstick` costs over it.
///
/// `None` if the yardstick costs nothing, which only a broken measurement shows.
pub(crate) fn net_ratio(bare: f64, yardstick: f64, measured: f64) -> Option<f64> {
    let unit = yardstick - bare;
    (unit > 0.0).then(|| (measured - bare) / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_samples() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_is_taken_of_what_is_added() {
        assert_eq!(net_ratio(100.0, 140.0, 130.0), Some(0.75));
        assert_eq!(net_ratio(100.0, 140.0, 100.0), Some(0.0));
        assert_eq!(net_ratio(100.0, 140.0, 90.0), Some(-0.25));
        assert_eq!(net_ratio(100.0, 100.0, 130.0), None);
        assert_eq!(net_ratio(100.0, 90.0, 130.0), None);
    }
}
