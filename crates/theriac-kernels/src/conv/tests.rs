//! Every pass against the definition in double precision, on every instruction set of this processor.

use proptest::prelude::*;

use super::*;

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Calls `visit(output index, input index, weight index)` for every product of the convolution.
fn products(conv: &Conv, mut visit: impl FnMut(usize, usize, usize)) {
    for image in 0..conv.batch {
        for row in 0..conv.rows() {
            for column in 0..conv.columns() {
                for (down, right) in
                    (0..conv.kernel[0]).flat_map(|down| (0..conv.kernel[1]).map(move |right| (down, right)))
                {
                    let (y, x) = (row * conv.stride[0] + down, column * conv.stride[1] + right);
                    let inside = y >= conv.padding[0] && x >= conv.padding[1];
                    if !inside || y - conv.padding[0] >= conv.height || x - conv.padding[1] >= conv.width {
                        continue;
                    }
                    let pixel = (image * conv.height + y - conv.padding[0]) * conv.width + x - conv.padding[1];
                    let target = (image * conv.rows() + row) * conv.columns() + column;
                    for output in 0..conv.outputs {
                        for input in 0..conv.inputs {
                            let weight =
                                ((output * conv.inputs + input) * conv.kernel[0] + down) * conv.kernel[1] + right;
                            visit(target * conv.outputs + output, pixel * conv.inputs + input, weight);
                        }
                    }
                }
            }
        }
    }
}

/// The largest difference, relative to the largest expected value.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-6_f64, |largest, value| largest.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(&found, expected)| (f64::from(found) - expected).abs());
    differences.fold(0.0, |largest, difference| if difference.is_nan() { f64::NAN } else { largest.max(difference) })
        / largest
}

fn check(conv: &Conv) {
    let input = noise(conv.input_len(), 1);
    let weights = noise(conv.weight_len(), 2);
    let gradient = noise(conv.output_len(), 3);
    let bias = noise(conv.outputs, 4);
    let add = noise(conv.output_len(), 5);
    let mut output: Vec<f64> =
        add.iter().enumerate().map(|(at, &value)| f64::from(value) + f64::from(bias[at % conv.outputs])).collect();
    let mut input_gradient = vec![0.0; input.len()];
    let mut weight_gradient = vec![0.0; weights.len()];
    products(conv, |o, i, w| {
        let [x, k, g] = [input[i], weights[w], gradient[o]].map(f64::from);
        output[o] += x * k;
        input_gradient[i] += g * k;
        weight_gradient[w] += g * x;
    });
    for cpu in Cpu::all() {
        for &algorithm in conv.algorithms(cpu) {
            let limit = if algorithm == Algorithm::Four { 1e-4 } else { 1e-5 };
            let close = |pass: &str, found: &[f32], expected: &[f64]| {
                let error = error(found, expected);
                assert!(error < limit, "{pass} {conv:?} {algorithm:?} {cpu:?}: {error}");
            };
            let mut found = vec![f32::NAN; output.len()];
            conv.forward(
                cpu,
                algorithm,
                &input,
                &weights,
                Added { bias: Some(&bias), add: Some(&add) },
                Out::new(&mut found),
            );
            close("forward", &found, &output);
            let mut found = vec![f32::NAN; input.len()];
            conv.input_gradient(cpu, algorithm, &gradient, &weights, None, Out::new(&mut found));
            close("input", &found, &input_gradient);
            let mut found = vec![f32::NAN; weights.len()];
            conv.weight_gradient(cpu, algorithm, &input, &gradient, Out::new(&mut found));
            close("weights", &found, &weight_gradient);
        }
    }
}

#[test]
fn the_shapes_of_the_networks() {
    for (size, inputs, outputs, kernel, stride) in [
        (28, 1, 32, 3, 1),
        (14, 32, 64, 3, 1),
        (8, 16, 16, 3, 1),
        (8, 16, 32, 3, 2),
        (8, 16, 32, 1, 2),
        (4, 130, 70, 3, 1),
        (2, 256, 512, 3, 1),
    ] {
        let padding = [kernel / 2; 2];
        let [kernel, stride] = [[kernel; 2], [stride; 2]];
        check(&Conv { batch: 3, height: size, width: size, inputs, outputs, kernel, stride, padding });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_for_winograd(
        batch in 1_usize..9, height in 1_usize..12, width in 1_usize..12, inputs in 1_usize..4, outputs in 1_usize..4,
        padding in prop::array::uniform2(0_usize..3),
    ) {
        let conv = Conv { batch, height, width, inputs: inputs * 16, outputs: outputs * 16, kernel: [3, 3], stride: [1, 1], padding };
        prop_assume!(height + 2 * padding[0] >= 3 && width + 2 * padding[1] >= 3);
        check(&conv);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_shape(
        batch in 1_usize..20, height in 1_usize..12, width in 1_usize..12, inputs in 1_usize..20, outputs in 1_usize..36,
        kernel in prop::array::uniform2(1_usize..5), stride in prop::array::uniform2(1_usize..4), padding in prop::array::uniform2(0_usize..4),
    ) {
        let conv = Conv { batch, height, width, inputs, outputs, kernel, stride, padding };
        prop_assume!(height + 2 * padding[0] >= kernel[0] && width + 2 * padding[1] >= kernel[1]);
        check(&conv);
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let [kernel, stride, padding] = [[3; 2], [1; 2], [1; 2]];
    // Threads share out the images of the first and the weights of the second.
    same_bits(&Conv { batch: 13, height: 9, width: 7, inputs: 32, outputs: 48, kernel, stride, padding });
    same_bits(&Conv { batch: 3, height: 2, width: 2, inputs: 256, outputs: 512, kernel, stride, padding });
}

#[test]
fn pooled_convolutions_give_the_same_bits_for_any_number_of_threads() {
    use super::pooled::{Kept, Pooled, Wanted};
    let [kernel, stride, padding] = [[3; 2], [1; 2], [1; 2]];
    for (batch, size, inputs, outputs) in [(13, 9, 32, 48), (21, 28, 1, 32), (3, 2, 256, 512)] {
        let conv = Conv { batch, height: size, width: size, inputs, outputs, kernel, stride, padding };
        let pooled = Pooled(conv);
        let (input, weights, bias) = (noise(conv.input_len(), 1), noise(conv.weight_len(), 2), noise(outputs, 3));
        let gradient = noise(batch * (size / 2) * (size / 2) * outputs, 4);
        for &algorithm in conv.algorithms(Cpu::best()) {
            let results = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let cpu = Cpu::best();
                    let mut results =
                        [vec![f32::NAN; gradient.len()], vec![f32::NAN; input.len()], vec![f32::NAN; weights.len()]];
                    let [output, of_input, of_weights] = results.each_mut().map(|values| &mut values[..]);
                    let chosen = pooled.forward(cpu, algorithm, &input, &weights, Some(&bias), Out::new(output));
                    let kept = Kept { input: &input, output, chosen: &chosen };
                    let wanted = Wanted { input: Some(Out::new(of_input)), weights: Some(Out::new(of_weights)) };
                    let of_bias = pooled.backward(cpu, algorithm, kept, &weights, &gradient, wanted);
                    let numbers = results.concat().into_iter().chain(of_bias);
                    assert!(numbers.clone().all(f32::is_finite));
                    (numbers.map(f32::to_bits).collect::<Vec<_>>(), chosen)
                })
            });
            assert!(results[0] == results[1] && results[0] == results[2], "{conv:?} {algorithm:?}");
        }
    }
}

fn same_bits(conv: &Conv) {
    let (input, weights, gradient) =
        (noise(conv.input_len(), 1), noise(conv.weight_len(), 2), noise(conv.output_len(), 3));
    for algorithm in [Algorithm::Direct, Algorithm::Two, Algorithm::Four] {
        let results = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let cpu = Cpu::best();
                let (mut output, mut inputs, mut weight) =
                    (vec![0.0; gradient.len()], vec![0.0; input.len()], vec![0.0; weights.len()]);
                conv.forward(cpu, algorithm, &input, &weights, Added::default(), Out::new(&mut output));
                conv.input_gradient(cpu, algorithm, &gradient, &weights, None, Out::new(&mut inputs));
                conv.weight_gradient(cpu, algorithm, &input, &gradient, Out::new(&mut weight));
                [output, inputs, weight].concat().iter().map(|value: &f32| value.to_bits()).collect::<Vec<_>>()
            })
        });
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
    }
}
