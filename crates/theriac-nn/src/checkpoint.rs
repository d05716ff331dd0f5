//! Weights as safetensors, which PyTorch, JAX and others read.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::parameters::Parameter;

/// The bytes are not a checkpoint that this project can read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read a checkpoint: {0}")]
pub struct CheckpointError(String);

/// Writes parameters in the order of their names, so that equal weights give equal bytes.
pub fn encode(parameters: &BTreeMap<String, Parameter>) -> Vec<u8> {
    let bytes = |parameter: &Parameter| parameter.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = parameters
        .iter()
        .map(|(name, parameter)| (name.as_str(), parameter.shape.as_slice(), bytes(parameter)))
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a tensor's bytes fit its shape");
        (name.to_string(), view)
    });
    safetensors::serialize(views, None).expect("tensors in memory serialise")
}

/// Reads what [`encode`] wrote, and any other file with `f32` tensors.
///
/// # Errors
/// When the bytes are not safetensors or hold another number format.
pub fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Parameter>, CheckpointError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| CheckpointError(error.to_string()))?;
    let parameter = |(name, view): (String, TensorView)| match view.dtype() {
        Dtype::F32 => {
            let values = view.data().chunks_exact(4);
            let values = values.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
            Ok((name, Parameter { shape: view.shape().to_vec(), values }))
        }
        other => Err(CheckpointError(format!("tensor `{name}` holds {other:?}, expected F32"))),
    };
    file.tensors().into_iter().map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_damage_is_an_error() {
        let parameter = Parameter { shape: vec![2, 1], values: vec![1.5, -2.0] };
        let parameters: BTreeMap<_, _> = [("a.weight".to_owned(), parameter)].into();
        let bytes = encode(&parameters);
        assert_eq!(decode(&bytes).unwrap(), parameters);
        assert_eq!(bytes, encode(&parameters));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(b"not a checkpoint").is_err());
    }
}
