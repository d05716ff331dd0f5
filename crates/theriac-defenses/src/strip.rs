//! STRIP: Yansong Gao, Change Xu, Derui Wang, Shiping Chen, Damith C. Ranasinghe, Surya Nepal, "STRIP: A Defence
//! Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, <https://arxiv.org/abs/1902.06531>.
//!
//! # Assumptions
//!
//! The defender runs the model, sees its probabilities, and has `calibration` clean images, but knows no trigger. As a
//! guard it judges the inputs of a deployed model, and needs no training data; asked to vet (`hook = "vet"`), it judges the
//! samples of the training set by the model that was trained on them, and removes those that it would refuse as inputs.
//! The trigger works wherever it is pasted: an input that carries it keeps its class whatever is laid over it, while a
//! clean input under another image becomes doubtful. Triggers that act only on some classes, or that an overlay destroys,
//! are missed.
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
//! - The paper judges inputs. Vetting judges the training samples in the same way, by overlays and a threshold from clean
//!   images; the model has seen both.
//! - Entropies of clean inputs are often far from normal, and the normal fit can then place the threshold below 0,
//!   where nothing is ever refused. `fit = "quantile"` takes the empirical quantile instead.
//!
//! # Verified against
//!
//! `scripts/verify/vetting.py`, 40 inputs under 5 overlays each: entropies agree with numpy 2.1.3 to 1e-12, the
//! threshold of the normal fit with scipy 1.17.1 to 1e-9, that of the quantile with numpy to 1e-12.
//! `scripts/verify/strip.py`: from pixels to entropies, eight images under eight overlays and a network of two layers, with
//! full weights and half and half, agree with numpy to 1e-5; the blends half and half are exactly those of the Adversarial
//! Robustness Toolbox 1.20.1. Its entropies are no reference: it takes them along the overlays, class by class, instead of
//! along the classes.

use statrs::distribution::{ContinuousCDF, Normal};
use theriac_core::{Dataset, Digest, Facts, Hook, Matrix, MethodInfo, Paper, Range, Seeds, Values, config};

use theriac_nn::{Batch, Network};

use crate::vetting::removal;
use crate::{Checked, Defense, DefenseEntry, DefenseError, Guard, GuardContext, Verdict, VetContext};

config! {
    /// STRIP.
    pub struct Strip {
        /// `guard`: refuse inputs. `vet`: remove training samples.
        hook: String = "guard", Range::Choice(&["guard", "vet"]), "";
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
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

impl Defense for Strip {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let VetContext { data, victim: model, trusted, seeds, .. } = *context;
        let watch = Watch::new(self, &GuardContext { model, trusted, seeds })?;
        let scores = watch.scores(data);
        let refused = (0..data.len()).filter(|&index| scores[index] > watch.threshold()).collect();
        Ok(removal(ENTRY.info.name, context, scores, refused))
    }

    fn guard<'a>(&'a self, context: &'a GuardContext<'a>) -> Result<Box<dyn Guard + 'a>, DefenseError> {
        Ok(Box::new(Watch::new(self, context)?))
    }
}

/// STRIP set up for one model.
struct Watch<'a> {
    strip: &'a Strip,
    model: &'a Network,
    seeds: &'a Seeds,
    /// The clean images that the defender has.
    pool: Dataset,
    limit: f64,
}

impl<'a> Watch<'a> {
    fn new(strip: &'a Strip, context: &GuardContext<'a>) -> Result<Self, DefenseError> {
        let GuardContext { model, trusted, seeds } = *context;
        let everything: Vec<usize> = (0..trusted.len()).collect();
        let pool = trusted.select(&seeds.stream("strip/calibration").choose(&everything, strip.calibration));
        let mut watch = Self { strip, model, seeds, pool, limit: 0.0 };
        let clean = watch.entropies(&watch.pool, &seeds.child("calibration"));
        let missing = || DefenseError::Infeasible("STRIP needs clean samples to set its threshold".to_owned());
        watch.limit = strip.limit(&clean).ok_or_else(missing)?;
        Ok(watch)
    }

    /// H(x) of each input.
    fn entropies(&self, inputs: &Dataset, seeds: &Seeds) -> Vec<f64> {
        let entropy_of = |index: usize| {
            let image = inputs.image(index);
            let overlays = self.strip.draw_overlays(seeds, image, self.pool.len());
            let overlays = overlays.into_iter().map(|overlay| self.pool.image(overlay));
            let pixels = self.strip.blend_all(image, overlays);
            let blends = Batch { shape: inputs.shape(), pixels };
            entropy(&self.model.logits_of(&blends).softmax())
        };
        if self.pool.is_empty() { Vec::new() } else { (0..inputs.len()).map(entropy_of).collect() }
    }
}

impl Guard for Watch<'_> {
    fn scores(&self, inputs: &Dataset) -> Vec<f64> {
        self.entropies(inputs, self.seeds).into_iter().map(|entropy| -entropy).collect()
    }

    fn threshold(&self) -> f64 {
        -self.limit
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "strip",
        &[Hook::Vet, Hook::Guard],
        "Refuses inputs, or removes samples, whose prediction stays certain when clean images are laid over them.",
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
    }, theriac_core::Verified {
        against: "numpy 2.1.3, 8 images under 8 overlays through a small network; blends of ART 1.20.1 (scripts/verify/strip.py)",
        agreement: "entropies to 1e-5, blends exactly",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(Strip::from_values(values)?))
}

#[cfg(test)]
mod tests;
