//! `nad`: teach the suspect to look where its fine-tuned copy looks.
//!
//! Yige Li, Xixiang Lyu, Nodens Koren, Lingjuan Lyu, Bo Li, Xingjun Ma: "Neural Attention Distillation: Erasing Backdoor Triggers from
//! Deep Neural Networks", ICLR 2021, <https://arxiv.org/abs/2101.05930>.
//!
//! # Assumptions
//! The defender has the model and a few clean, correctly labelled samples; it knows neither trigger nor target. Fine-tuning need not
//! remove the backdoor, it is enough that it moves the teacher's attention away from it.
//!
//! # Rule
//! ```text
//! teacher   = the suspect after `teacher_epochs` of fine-tuning on the trusted set
//! A(F)      = sum_c |F_c|^2                       for the map F of one stage of one image, one value a place
//! D_l       = mean over images and places of ( A(F_student)/|A(F_student)|_2 - A(F_teacher)/|A(F_teacher)|_2 )^2
//! student  <- student - lr grad ( cross-entropy + sum_l beta_l D_l )      from the suspect, `epochs` times over the trusted set
//! ```
//! `beta_l` is `beta`, and half of it for the first stage: the paper's 500, 1000, 1000.
//!
//! # Where this differs from the paper
//! - The paper writes the distance as a norm; its values of beta belong to the mean of squares over images and places that the authors'
//!   program computes, and so does this.
//! - The stages are all that the network has: four of `preact-resnet18`, where the paper has three of its own network. `mlp` has none
//!   and is refused.
//! - The length of `A` is `sqrt(sum A^2 + 1e-12)`, where the authors add 1e-6 to it: a map that is zero everywhere has no gradient,
//!   instead of one that is not a number.
//! - Both trainings use the recipe of `fine-tuning`, at half of its learning rate and twice its weight decay: at 0.1 the student of `cnn` on
//!   MNIST diverges. The authors begin at 0.1 and divide by ten every two epochs, with weight decay 1e-4; here a cosine does that.
//! - Augmentation is that of the recipe by which the suspect was trained; teacher and student see the same images.
//!
//! # Verified against
//! `scripts/verify/repairs.py`, a tiny `cnn` and a tiny `resnet`: the losses of 5 steps and all weights of the student are those of
//! PyTorch to 1e-4.

use std::sync::Arc;

use theriac_core::{Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, Verified, config};
use theriac_nn::burn::tensor::Tensor;
use theriac_nn::{Batch, Network, forward_maps};
use theriac_train::{Penalty, Recipe};

use crate::{Defense, DefenseEntry, DefenseError, RepairContext, repairing};

config! {
    /// Parameters of `nad`.
    pub struct Nad {
        /// Size of the trusted set.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
        /// Passes over the trusted set that make the teacher.
        teacher_epochs: usize = 10, Range::Whole(1, 10_000), "epochs";
        /// Passes over the trusted set that teach the student.
        epochs: usize = 50, Range::Whole(1, 10_000), "epochs";
        /// Largest learning rate of both, cosine to zero.
        lr: f64 = 0.05, Range::Above(0.0, 10.0), "";
        /// Weight of the distance of each stage; the first stage has half of it.
        beta: f64 = 1000.0, Range::Number(0.0, 1e9), "";
        /// Strength of the L2 penalty, which is all that moves a model where it already fits the trusted set.
        weight_decay: f64 = 0.02, Range::Number(0.0, 10.0), "";
    }
}

/// What keeps the student's attention at the teacher's.
struct Attention {
    teacher: Network,
    beta: f64,
}

/// Where a map looks: the energy of its channels at each place, of length 1.
///
/// # Shapes
/// - map: `[batch, height, width, channels]`
/// - the answer: `[batch, height * width]`
fn attention(map: Tensor<4>) -> Tensor<2> {
    let energy = map.powi_scalar(2).sum_dim(3).flatten::<2>(1, 3);
    let length = (energy.clone().powi_scalar(2).sum_dim(1) + 1e-12).sqrt(); // [batch, 1]
    energy / length
}

impl Penalty for Attention {
    fn of(&self, images: Tensor<4>, maps: Vec<Tensor<4>>) -> Tensor<1> {
        let (_, taught) = forward_maps(&self.teacher.module, &self.teacher.normalisation, images);
        let term = |(stage, (map, taught)): (usize, (Tensor<4>, Tensor<4>))| {
            let device = map.device();
            let gap = attention(map) - Tensor::from_inner(attention(taught)).to_device(&device);
            gap.powi_scalar(2).mean() * (if stage == 0 { 0.5 } else { 1.0 } * self.beta)
        };
        let terms = maps.into_iter().zip(taught).enumerate().map(term);
        terms.reduce(|sum, term| sum + term).expect("the network was seen to have stages")
    }
}

impl Defense for Nad {
    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        let trusted = repairing::trusted(context.trusted, context.seeds, self.trusted);
        let suspect = context.model;
        let first = Batch::gather(&trusted, &[0]).into_tensor(&suspect.device);
        if forward_maps(&suspect.module, &suspect.normalisation, first).1.is_empty() {
            return Err(DefenseError::Infeasible(
                "the network has no convolution whose attention could be taught".into(),
            ));
        }
        let teaching = repairing::tuning(context, self.teacher_epochs, self.lr, self.weight_decay).into();
        let teacher = repairing::tuned(suspect, &trusted, &teaching, &context.seeds.child("teacher"), context.session)?;
        let recipe = Recipe {
            penalty: Some(Arc::new(Attention { teacher, beta: self.beta })),
            ..repairing::tuning(context, self.epochs, self.lr, self.weight_decay).into()
        };
        repairing::tuned(suspect, &trusted, &recipe, context.seeds, context.session)
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "nad",
        &[Hook::Repair],
        "Teaches the suspect to look where its fine-tuned copy looks.",
        &[Paper {
            cite: "Li et al. 2021",
            title: "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural Networks",
            link: "https://arxiv.org/abs/2101.05930",
        }],
        Nad::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, a tiny `cnn` and a tiny `resnet` on 12 images (scripts/verify/repairs.py)",
        agreement: "losses of 5 steps and all weights of the student after them to 1e-4",
    }]),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(Nad::from_values(values)?))
}

#[cfg(test)]
mod tests;
