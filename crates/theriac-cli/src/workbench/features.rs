//! What a model sees in its training data. Computed once, all filters read it.

use theriac_core::Matrix;
use theriac_lab::{Files, Job};
use theriac_nn::{checkpoint, parameters::Parameter};

use super::Workbench;
use super::inputs::{poisoned_set, read, text};

const FEATURES: &str = "features.safetensors";

impl Workbench {
    pub(super) fn features(&self, job: &Job) -> Result<Files, String> {
        let prepared = self.data_of(job)?;
        let data = poisoned_set(job, &prepared)?;
        let model = self.required(job, "model", &prepared)?;
        let (features, logits) = model.taps(&data);
        let tensor = |matrix: Matrix| Parameter {
            shape: vec![matrix.rows(), matrix.columns()],
            values: matrix.values().to_vec(),
        };
        let tensors = [("features", features), ("logits", logits)];
        let tensors = tensors.map(|(name, matrix)| (name.to_owned(), tensor(matrix))).into();
        Ok(vec![(FEATURES.to_owned(), checkpoint::encode(&tensors))])
    }
}

/// Features and logits, as [`Workbench::features`] left them.
pub(super) fn seen(job: &Job) -> Result<(Matrix, Matrix), String> {
    let bytes = read(job, "features", FEATURES)?.ok_or("a vetting step needs its input `features`")?;
    let mut tensors = checkpoint::decode(&bytes).map_err(text)?;
    let mut matrix = |name: &str| match tensors.remove(name) {
        Some(Parameter { shape, values }) if shape.len() == 2 => Ok(Matrix::new(shape[1], values)),
        _ => Err(format!("the victim's {name} are not in {FEATURES}")),
    };
    Ok((matrix("features")?, matrix("logits")?))
}
