//! What layers and neurons give out for clean and for triggered images, compared.

use theriac_core::Matrix;

use crate::dense::Dense;

impl Dense {
    /// The weights of one neuron.
    pub fn incoming(&mut self, neuron: usize) -> impl Iterator<Item = &mut f32> {
        let outputs = self.bias.len();
        self.weight.iter_mut().skip(neuron).step_by(outputs)
    }

    /// What one neuron gives out for each row, ascending.
    pub fn sorted(&self, neuron: usize, inputs: &Matrix) -> Vec<f32> {
        let outputs = self.bias.len();
        let weight = self.weight.iter().skip(neuron).step_by(outputs).copied().collect();
        let alone = Self { name: String::new(), weight, bias: vec![self.bias[neuron]] };
        let mut values = alone.of(inputs).values().to_vec();
        values.sort_by(f32::total_cmp);
        values
    }
}

/// Mean and deviation of each column.
pub fn moments(matrix: &Matrix) -> Vec<(f64, f64)> {
    let rows = matrix.rows() as f64;
    let column = |at: usize| {
        let values = || matrix.iter().map(move |row| f64::from(row[at]));
        let mean = values().sum::<f64>() / rows;
        (mean, (values().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt())
    };
    (0..matrix.columns()).map(column).collect()
}

/// The value of ascending ones that a share of them does not exceed.
pub fn quantile(ascending: &[f32], share: f64) -> f32 {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending[rank.clamp(1, ascending.len()) - 1]
}

/// The inputs on which the trigger works: at least half as much as on any.
pub fn feeling(clean: &Matrix, triggered: &Matrix) -> Vec<usize> {
    let shifts: Vec<f64> =
        moments(clean).iter().zip(moments(triggered)).map(|(before, after)| (after.0 - before.0).abs()).collect();
    let most = shifts.iter().copied().fold(0.0, f64::max);
    (0..shifts.len()).filter(|&at| shifts[at] >= most / 2.0).collect()
}

/// All neurons, those first that tell clean and triggered images apart best.
pub fn separating(clean: &Matrix, triggered: &Matrix) -> Vec<usize> {
    let apart = |(before, after): (&(f64, f64), &(f64, f64))| {
        (after.0 - before.0).abs() / (after.1 + before.1).max(f64::MIN_POSITIVE)
    };
    let apart: Vec<f64> = moments(clean).iter().zip(&moments(triggered)).map(apart).collect();
    let mut order: Vec<usize> = (0..apart.len()).collect();
    order.sort_by(|&a, &b| apart[b].total_cmp(&apart[a]));
    order
}
