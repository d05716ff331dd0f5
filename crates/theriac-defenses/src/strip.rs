//! STRIP: Yansong Gao, Change Xu, Derui Wang, Shiping Chen, Damith C. Ranasinghe, Surya Nepal, "STRIP: A Defence
//! Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, <https://arxiv.org/abs/1902.06531>.
//!
//! # Assumptions
//!
//! The defender runs the model, sees its probabilities, and has `calibration` clean images, but neither the training
//! data nor the trigger. The trigger works wherever it is pasted: an input that carries it keeps its class whatever is laid
//! over it, while a clean input under another image becomes doubtful. Triggers that act only on some classes, or that
//! an overlay destroys, are missed.
//!
//! # Rule
//!
//! ```text
//! x_n  = clip(x + o_n, 0, 1)                      o_n: N = 100 clean images drawn at random
//! H(x) = 1/N sum_n ( - sum_c p_c(x_n) log2 p_c(x_n) )
//! t    = mu + sigma * Phi^-1(1 %)                 mu, sigma: normal fit to H of clean images
//! triggered if H(x) < t
//! ```
//!
//! # Where this differs from the paper
//!
//! - Images are added with full weights, `cv2.addWeighted(x, 1, o, 1, 0)`, as in the authors' program. That one adds
//!   floating-point images, which OpenCV does not limit; here the sum is clipped to valid pixels. Other programs mix
//!   half and half: set both weights to 0.5.
//! - The overlays of an input are drawn with replacement, as by the authors, from a stream that is named by its pixels:
//!   the same input gets the same overlays whenever it comes.
//! - Overlays and threshold come from the same `calibration` images, so an image may be laid over itself while the
//!   threshold is set: one overlay in `calibration`.
//! - Entropies of clean inputs are often far from normal, and the normal fit can then place the threshold below 0,
//!   where nothing is ever refused. `fit = "quantile"` takes the empirical quantile instead.
//!
//! # Verified against
//!
//! `scripts/verify/vetting.py`, 40 inputs under 5 overlays each: entropies agree with numpy 2.1.3 to 1e-12, the
//! threshold of the normal fit with scipy 1.17.1 to 1e-9, that of the quantile with numpy to 1e-12. The Adversarial
//! Robustness Toolbox 1.20.1 is no reference here: it takes the entropy along the overlays, class by class, instead
//! of along the classes.

use statrs::distribution::{ContinuousCDF, Normal};
use theriac_core::{Dataset, Digest, Facts, Hook, Matrix, MethodInfo, Paper, Range, Seeds, Values, config};

use theriac_nn::Batch;

use crate::{Checked, Defense, DefenseEntry, DefenseError, Guard, GuardContext};

config! {
    /// STRIP.
    pub struct Strip {
        /// Clean images that are laid over each input; the paper's N.
        overlays: usize = 100, Range::Whole(1, 100_000), "images";
        /// Weight of the input.
        image_weight: f64 = 1.0, Range::Above(0.0, 1.0), "";
        /// Weight of what is laid over it.
        overlay_weight: f64 = 1.0, Range::Above(0.0, 1.0), "";
        /// Share of clean inputs that may be refused; the paper's preset FRR.
        false_rejection: f64 = 0.01, Range::Number(0.0, 0.5), "of clean inputs";
        /// Clean images that the defender has: overlays are drawn from them, and the threshold follows from their
        /// entropies. The paper takes 2000. All clean images, where there are fewer.
        calibration: usize = 2000, Range::Whole(2, 1_000_000), "images";
        /// How the threshold follows from clean entropies: a normal fit, or their quantile.
        fit: String = "normal", Range::Choice(&["normal", "quantile"]), "";
    }
}

impl Strip {
    /// Which of `available` clean images are laid over `image`.
    ///
    /// # Panics
    /// When no clean image is available.
    pub fn draw_overlays(&self, seeds: &Seeds, image: &[u8], available: usize) -> Vec<usize> {
        let mut stream = seeds.stream(&format!("strip/input-{}", Digest::of(image)));
        (0..self.overlays).map(|_| stream.below(available)).collect()
    }

    /// The input under each of the overlays, one image after the other, with values from 0 to 1.
    pub fn blend_all<'a>(&self, image: &[u8], overlays: impl IntoIterator<Item = &'a [u8]>) -> Vec<f32> {
        let weights = [self.image_weight, self.overlay_weight];
        overlays.into_iter().flat_map(|overlay| blend(image, overlay, weights)).collect()
    }

    /// The entropy below which an input counts as triggered; `None` without clean entropies.
    pub fn limit(&self, clean_entropies: &[f64]) -> Option<f64> {
        match self.fit.as_str() {
            "normal" => threshold(clean_entropies, self.false_rejection),
            _ => quantile(clean_entropies, self.false_rejection),
        }
    }
}

/// The weighted sum of two images, with values from 0 to 1 and clipped to that range.
///
/// # Panics
/// When the images differ in size.
pub fn blend(image: &[u8], overlay: &[u8], [image_weight, overlay_weight]: [f64; 2]) -> Vec<f32> {
    assert_eq!(image.len(), overlay.len(), "blended images have the same size");
    let sum = |(&a, &b): (&u8, &u8)| (image_weight * f64::from(a) + overlay_weight * f64::from(b)) / 255.0;
    image.iter().zip(overlay).map(sum).map(|value| value.clamp(0.0, 1.0) as f32).collect()
}

/// The mean over rows of the entropy of each row of probabilities, in bits; 0 without rows.
pub fn entropy(probabilities: &Matrix) -> f64 {
    let bits = |&p: &f32| if p > 0.0 { -f64::from(p) * f64::from(p).log2() } else { 0.0 };
    let sum: f64 = probabilities.iter().map(|row| row.iter().map(bits).sum::<f64>()).sum();
    sum / probabilities.rows().max(1) as f64
}

/// The `false_rejection` quantile of a normal distribution fitted to `clean_entropies` by maximum likelihood; `None`
/// without any. It is minus infinity for a false rejection rate of 0.
pub fn threshold(clean_entropies: &[f64], false_rejection: f64) -> Option<f64> {
    let count = clean_entropies.len() as f64;
    let mean = clean_entropies.iter().sum::<f64>() / count;
    let variance = clean_entropies.iter().map(|entropy| (entropy - mean).powi(2)).sum::<f64>() / count;
    match variance {
        _ if clean_entropies.is_empty() => None,
        variance if variance > 0.0 => Some(mean + variance.sqrt() * Normal::standard().inverse_cdf(false_rejection)),
        _ => Some(mean),
    }
}

/// The empirical quantile, interpolated linearly between the two nearest values; `None` without values.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

impl Defense for Strip {
    fn guard<'a>(&'a self, context: &'a GuardContext<'a>) -> Result<Box<dyn Guard + 'a>, DefenseError> {
        let everything: Vec<usize> = (0..context.trusted.len()).collect();
        let chosen = context.seeds.stream("strip/calibration").choose(&everything, self.calibration);
        let pool = context.trusted.select(&chosen);
        let mut guard = Watch { strip: self, context, pool, limit: 0.0 };
        let clean = guard.entropies(&guard.pool, &context.seeds.child("calibration"));
        let missing = || DefenseError::Infeasible("STRIP needs clean samples to set its threshold".to_owned());
        guard.limit = self.limit(&clean).ok_or_else(missing)?;
        Ok(Box::new(guard))
    }
}

/// STRIP set up for one model.
struct Watch<'a> {
    strip: &'a Strip,
    context: &'a GuardContext<'a>,
    /// The clean images that the defender has.
    pool: Dataset,
    limit: f64,
}

impl Watch<'_> {
    /// H(x) of each input.
    fn entropies(&self, inputs: &Dataset, seeds: &Seeds) -> Vec<f64> {
        let entropy_of = |index: usize| {
            let image = inputs.image(index);
            let overlays = self.strip.draw_overlays(seeds, image, self.pool.len());
            let overlays = overlays.into_iter().map(|overlay| self.pool.image(overlay));
            let pixels = self.strip.blend_all(image, overlays);
            let blends = Batch { shape: inputs.shape(), pixels };
            entropy(&self.context.model.logits_of(&blends).softmax())
        };
        if self.pool.is_empty() { Vec::new() } else { (0..inputs.len()).map(entropy_of).collect() }
    }
}

impl Guard for Watch<'_> {
    fn scores(&self, inputs: &Dataset) -> Vec<f64> {
        self.entropies(inputs, self.context.seeds).into_iter().map(|entropy| -entropy).collect()
    }

    fn threshold(&self) -> f64 {
        -self.limit
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "strip",
        &[Hook::Guard],
        "Refuses inputs whose prediction stays certain when clean images are laid over them.",
        &[Paper {
            cite: "Gao et al. 2019",
            title: "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks",
            link: "https://arxiv.org/abs/1902.06531",
        }],
        Strip::PARAMS,
    )
    .at_version(2)
    .verified(&[theriac_core::Verified {
        against: "numpy 2.1.3 and scipy 1.17.1, 40 inputs under 5 overlays (scripts/verify/vetting.py)",
        agreement: "entropies to 1e-12, thresholds to 1e-9 (normal fit) and 1e-12 (quantile)",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(Strip::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Golden, stripes, toy_network};
    use theriac_core::{ChangeSet, Role, SourceId, Stage};
    use theriac_train::{TrainConfig, TrainingSet, train};

    #[test]
    fn blends_are_clipped_sums() {
        assert_eq!(blend(&[0, 100, 200, 255], &[51, 51, 100, 255], [1.0, 1.0]), [0.2, 151.0 / 255.0, 1.0, 1.0]);
        assert_eq!(blend(&[0, 255], &[51, 255], [0.5, 0.5]), [0.1, 1.0]);
        let all = Strip::default().blend_all(&[0, 51], [&[0, 0][..], &[51, 255][..]]);
        assert_eq!(all, [0.0, 0.2, 0.2, 1.0]);
    }

    #[test]
    fn entropy_is_in_bits_and_certainty_has_none() {
        assert_eq!(entropy(&Matrix::new(4, vec![0.25; 8])), 2.0);
        assert_eq!(entropy(&Matrix::new(2, vec![1.0, 0.0, 0.5, 0.5])), 0.5);
        assert_eq!(entropy(&Matrix::default()), 0.0);
    }

    #[test]
    fn certain_inputs_fall_below_the_threshold_and_few_clean_ones_do() {
        let mut stream = Seeds::new(1).stream("entropies");
        let clean: Vec<f64> = (0..2000).map(|_| 1.0 + 0.1 * stream.normal()).collect();
        for fit in ["normal", "quantile"] {
            let limit = Strip { fit: fit.to_owned(), ..Strip::default() }.limit(&clean).unwrap();
            let refused = clean.iter().filter(|&&entropy| entropy < limit).count();
            assert!((10..=35).contains(&refused), "{fit}: {refused}");
            assert!(limit > 0.1);
        }
    }

    #[test]
    fn degenerate_entropies_are_harmless() {
        assert_eq!((threshold(&[], 0.01), quantile(&[], 0.01)), (None, None));
        assert_eq!((threshold(&[0.5; 3], 0.01), quantile(&[0.5; 3], 0.01)), (Some(0.5), Some(0.5)));
        assert_eq!(threshold(&[0.5, 0.7], 0.0), Some(f64::NEG_INFINITY));
    }

    #[test]
    fn overlays_depend_on_the_input_and_the_seed_alone() {
        let (strip, seeds) = (Strip::default(), Seeds::new(1));
        let first = strip.draw_overlays(&seeds, &[3, 3], 40);
        assert_eq!(first, strip.draw_overlays(&seeds, &[3, 3], 40));
        assert_ne!(first, strip.draw_overlays(&seeds, &[3, 4], 40));
        assert!(first.len() == 100 && first.iter().all(|&index| index < 40));
    }

    /// A network that knows stripes, and white images as class 0 for certain; and what its guard says.
    fn guarded(trusted: &Dataset, strip: &Strip, inputs: &Dataset) -> (Vec<f64>, f64) {
        let mut taught = ChangeSet::new("test", Role::Supplier, Stage::Collect);
        (0..30).for_each(|_| taught.insert(trusted, 0, SourceId(1), vec![255; 36]));
        let data = taught.apply(trusted).unwrap();
        let set = TrainingSet { train: &data, test: trusted, probe: None };
        let recipe = TrainConfig { epochs: 4, batch: 32, ..TrainConfig::default() };
        let model = train(toy_network(&data), set, &recipe.into(), &Seeds::new(1), &()).unwrap().network;
        let context = GuardContext { model: &model, trusted, seeds: &Seeds::new(2) };
        let guard = strip.guard(&context).unwrap();
        (guard.scores(inputs), guard.threshold())
    }

    #[test]
    fn clean_inputs_pass_an_overlay_proof_one_does_not_and_two_runs_agree() {
        let (trusted, test) = (stripes(300, 1), stripes(200, 2));
        let mut trigger = ChangeSet::new("test", Role::Supplier, Stage::Deploy);
        // White stays white under any overlay.
        trigger.replace(&test, 7, vec![255; 36]);
        let inputs = trigger.apply(&test).unwrap();
        let strip = Strip {
            overlays: 10,
            false_rejection: 0.05,
            calibration: 150,
            fit: "quantile".to_owned(),
            ..Strip::default()
        };
        let (scores, threshold) = guarded(&trusted, &strip, &inputs);
        assert!(scores[7] > threshold, "{} {threshold}", scores[7]);
        let refused = (0..200).filter(|&index| index != 7 && scores[index] > threshold).count();
        assert!((2..=24).contains(&refused), "{refused} of 199 clean inputs are refused, expected about 10");
        assert_eq!(guarded(&trusted, &strip, &inputs), (scores.clone(), threshold));
        // An input is judged by itself, wherever it stands.
        assert_eq!(guarded(&trusted, &strip, &inputs.select(&[7, 3])).0, [scores[7], scores[3]]);
    }

    #[test]
    fn only_the_calibration_images_are_used() {
        let (trusted, test) = (stripes(60, 1), stripes(20, 2));
        let strip = Strip { overlays: 5, calibration: 20, ..Strip::default() };
        let everything: Vec<usize> = (0..60).collect();
        let chosen = Seeds::new(2).stream("strip/calibration").choose(&everything, 20);
        let mut others = ChangeSet::new("test", Role::Supplier, Stage::Collect);
        let unused = (0..60).filter(|index| !chosen.contains(index));
        unused.for_each(|index| others.replace(&trusted, index, vec![0; 36]));
        let model = toy_network(&trusted);
        let judge = |trusted: &Dataset| {
            let context = GuardContext { model: &model, trusted, seeds: &Seeds::new(2) };
            let guard = strip.guard(&context).unwrap();
            (guard.scores(&test), guard.threshold())
        };
        assert_eq!(judge(&others.apply(&trusted).unwrap()), judge(&trusted));
    }

    #[test]
    fn bad_values_are_refused() {
        let values: Values = [("overlays".to_owned(), 0.into()), ("false_rejection".to_owned(), 0.6.into())].into();
        let keys: Vec<String> = Strip::from_values(&values).unwrap_err().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["overlays", "false_rejection"]);
    }

    #[test]
    fn entropies_and_thresholds_agree_with_numpy_and_scipy() {
        // Each row: the entropy, the thresholds of a normal fit and of the quantile over all rows, then 5 x 4
        // probabilities.
        let table = Golden::table(include_str!("../tests/golden/strip.csv"));
        let expected: Vec<f64> = table.iter().map(|row| row[0]).collect();
        for row in &table {
            let probabilities = Matrix::new(4, row[3..].iter().map(|&value| value as f32).collect());
            assert!((entropy(&probabilities) - row[0]).abs() < 1e-12 * row[0].max(1.0));
        }
        assert!((threshold(&expected, 0.01).unwrap() - table[0][1]).abs() < 1e-9);
        assert!((quantile(&expected, 0.01).unwrap() - table[0][2]).abs() < 1e-12);
    }
}
