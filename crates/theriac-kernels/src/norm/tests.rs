//! Batch normalisation against double precision.

use proptest::prelude::*;

use super::*;

const EPSILON: f64 = 1e-5;

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mix = |index: u64| (index ^ seed << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let number = |index| mix(mix(index)) >> 40;
    (0..count as u64).map(|index| number(index) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// A channel in double precision.
struct Plain {
    x: Vec<f64>,
    gamma: f64,
    beta: f64,
    relu: bool,
    /// Of a whole batch earlier, if not of this one.
    given: Option<[f64; 2]>,
}

impl Plain {
    fn statistics(&self) -> [f64; 2] {
        let center = mean(self.x.iter().copied());
        self.given.unwrap_or([center, mean(self.x.iter().map(|x| (x - center).powi(2)))])
    }

    fn normalised(&self) -> (Vec<f64>, f64) {
        let [mean, variance] = self.statistics();
        let inverse = (variance + EPSILON).sqrt().recip();
        (self.x.iter().map(|x| (x - mean) * inverse).collect(), inverse)
    }

    fn forward(&self) -> Vec<f64> {
        let y = self.normalised().0.into_iter().map(|x| x * self.gamma + self.beta);
        y.map(|y| if self.relu { y.max(0.0) } else { y }).collect()
    }

    /// The gradients of the input, of gamma and of beta.
    fn backward(&self, dy: &[f64]) -> (Vec<f64>, f64, f64) {
        let (normalised, inverse) = self.normalised();
        let open = |y: f64| !self.relu || y > 0.0;
        let g: Vec<f64> = self.forward().iter().zip(dy).map(|(&y, &dy)| if open(y) { dy } else { 0.0 }).collect();
        let product: Vec<f64> = g.iter().zip(&normalised).map(|(g, x)| g * x).collect();
        let [through_mean, through_deviation] = match self.given {
            Some(_) => [0.0; 2],
            None => [&g, &product].map(|values| mean(values.iter().copied())),
        };
        let dx =
            g.iter().zip(&normalised).map(|(g, x)| self.gamma * inverse * (g - through_mean - x * through_deviation));
        (dx.collect(), product.iter().sum(), g.iter().sum())
    }

    /// What `backward` differentiates.
    fn loss(&self, dy: &[f64]) -> f64 {
        self.forward().iter().zip(dy).map(|(y, dy)| y * dy).sum()
    }
}

/// Every channel of a tensor, in double precision.
fn columns(values: &[f32], channels: usize) -> Vec<Vec<f64>> {
    (0..channels).map(|at| values[at..].iter().step_by(channels).map(|&value| f64::from(value)).collect()).collect()
}

/// Fails unless the distance is at most a ten-thousandth of `size`.
fn close(found: f32, expected: f64, size: f64) -> Result<(), TestCaseError> {
    let found = f64::from(found);
    prop_assert!(
        (found - expected).abs() <= 1e-4 * size.max(expected.abs()),
        "{} is not {}, of {}",
        found,
        expected,
        size
    );
    Ok(())
}

/// Compares everything with double precision.
fn check(rows: usize, channels: usize, seed: u64, offset: f32, relu: bool, trained: bool) -> Result<(), TestCaseError> {
    let count = rows * channels;
    let x: Vec<f32> = noise(count, seed).iter().map(|x| x + offset).collect();
    let [gamma, beta] = [1, 2].map(|part| noise(channels, seed + part));
    let residual = noise(count, seed + 3);
    let given = (!trained).then_some([f64::from(offset), 0.25]);
    let mut dy = noise(count, seed + 4);
    let plain: Vec<Plain> = columns(&x, channels)
        .into_iter()
        .zip(gamma.iter().zip(&beta))
        .map(|(x, (&gamma, &beta))| Plain { x, gamma: gamma.into(), beta: beta.into(), relu: false, given })
        .collect();
    // Next to the kink, rounding decides.
    for (channel, plain) in plain.iter().enumerate() {
        for (row, _) in plain.forward().iter().enumerate().filter(|(_, y)| y.abs() < 1e-4) {
            dy[row * channels + channel] = 0.0;
        }
    }
    let plain: Vec<Plain> = plain.into_iter().map(|plain| Plain { relu, ..plain }).collect();
    for cpu in Cpu::all() {
        let found = statistics(cpu, &x, channels);
        if trained {
            for (channel, plain) in plain.iter().enumerate() {
                let [mean, variance] = plain.statistics();
                close(found.mean[channel], mean, 1.0)?;
                close(found.variance[channel], variance, variance)?;
            }
        }
        let [mean, variance] = match given {
            Some(given) => given.map(|value| vec![value as f32; channels]),
            None => [found.mean, found.variance],
        };
        let affine = Affine::new(&mean, &variance, &gamma, &beta, EPSILON);
        let mut out = vec![f32::NAN; count];
        forward(cpu, &x, &affine, relu, Out::new(&mut out));
        let mut dx = vec![f32::NAN; count];
        let gradients = Gradients::Apart { dy: &dy, dx: Out::new(&mut dx) };
        let (dgamma, dbeta) = backward(cpu, &x, gradients, Some(&residual), &affine, relu, trained);
        let (out, sum) = (columns(&out, channels), columns(&dx, channels));
        let (arrived, around) = (columns(&dy, channels), columns(&residual, channels));
        for (channel, plain) in plain.iter().enumerate() {
            let (gradient, of_gamma, of_beta) = plain.backward(&arrived[channel]);
            let steep = (plain.gamma * plain.normalised().1).abs();
            close(dgamma[channel], of_gamma, (rows as f64).sqrt())?;
            close(dbeta[channel], of_beta, (rows as f64).sqrt())?;
            for (row, y) in plain.forward().into_iter().enumerate() {
                close(out[channel][row] as f32, y, 1.0)?;
                close(sum[channel][row] as f32, gradient[row] + around[channel][row], steep.max(1.0))?;
            }
        }
        // The same bits in place.
        let mut inside = dy.clone();
        let in_place = Gradients::InPlace(&mut inside);
        prop_assert_eq!(backward(cpu, &x, in_place, Some(&residual), &affine, relu, trained), (dgamma, dbeta));
        prop_assert_eq!(inside, dx);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn agrees_with_double_precision(
        rows in 1_usize..90, channels in 1_usize..150, seed: u32, offset in -2.0_f32..2.0, relu: bool, trained: bool,
    ) {
        check(rows, channels, seed.into(), offset, relu, trained)?;
    }
}

#[test]
fn large_and_small_shapes() {
    for (rows, channels) in [(1, 1), (3, 1), (1, 33), (20_000, 3), (3000, 16), (700, 65), (130, 520), (3, 3000)] {
        check(rows, channels, 5, 0.5, true, true).unwrap_or_else(|error| panic!("{rows} x {channels}: {error}"));
    }
}

#[test]
fn gradients_are_central_differences() {
    for (relu, given) in [(false, None), (true, None), (false, Some([0.1, 0.7])), (true, Some([0.1, 0.7]))] {
        let x: Vec<f64> = columns(&noise(9, 11), 1).remove(0);
        let dy: Vec<f64> = columns(&noise(9, 12), 1).remove(0);
        let plain = |x: &[f64], gamma, beta| Plain { x: x.to_vec(), gamma, beta, relu, given }.loss(&dy);
        let slope = |loss: &dyn Fn(f64) -> f64| (loss(1e-6) - loss(-1e-6)) / 2e-6;
        let (dx, dgamma, dbeta) = Plain { x: x.clone(), gamma: 0.8, beta: 0.2, relu, given }.backward(&dy);
        for (at, dx) in dx.into_iter().enumerate() {
            let moved = |by: f64| {
                plain(
                    &(0..9).map(|index| if index == at { x[index] + by } else { x[index] }).collect::<Vec<_>>(),
                    0.8,
                    0.2,
                )
            };
            assert!((slope(&moved) - dx).abs() < 1e-6, "{relu} {given:?}");
        }
        assert!((slope(&|by| plain(&x, 0.8 + by, 0.2)) - dgamma).abs() < 1e-6, "{relu} {given:?}");
        assert!((slope(&|by| plain(&x, 0.8, 0.2 + by)) - dbeta).abs() < 1e-6, "{relu} {given:?}");
    }
}

#[test]
fn the_mean_may_be_large_and_the_first_row_far_away() {
    for cpu in Cpu::all() {
        for channels in [3, 64, 100] {
            let mut x: Vec<f32> = noise(20_000 * channels, 1).iter().map(|x| 1000.0 + 3.0_f32.sqrt() * x).collect();
            for first in [1000.0, 1300.0] {
                x[..channels].fill(first);
                let found = statistics(cpu, &x, channels);
                for (channel, x) in columns(&x, channels).into_iter().enumerate() {
                    let [mean, variance] = Plain { x, gamma: 1.0, beta: 0.0, relu: false, given: None }.statistics();
                    assert!((f64::from(found.mean[channel]) / mean - 1.0).abs() < 1e-6);
                    let wrong = (f64::from(found.variance[channel]) / variance - 1.0).abs();
                    assert!(wrong < 1e-4, "{wrong} of the variance");
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    for (rows, channels) in [(40_000, 16), (12_345, 17), (3000, 300)] {
        let count = rows * channels;
        let (x, dy) = (noise(count, 1), noise(count, 2));
        let [gamma, beta] = [3, 4].map(|seed| noise(channels, seed));
        let run = |cpu, trained| {
            let statistics = statistics(cpu, &x, channels);
            let affine = Affine::new(&statistics.mean, &statistics.variance, &gamma, &beta, EPSILON);
            let (mut out, mut dx) = (vec![0.0; count], dy.clone());
            forward(cpu, &x, &affine, true, Out::new(&mut out));
            let sums = backward(cpu, &x, Gradients::InPlace(&mut dx), None, &affine, true, trained);
            (statistics, out, sums, dx)
        };
        for (cpu, trained) in Cpu::all().into_iter().zip([true, false].into_iter().cycle()) {
            let threads = |count| rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            let alone = threads(1).install(|| run(cpu, trained));
            assert!([2, 3].iter().all(|&count| threads(count).install(|| run(cpu, trained)) == alone));
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_channel() {
    for cpu in Cpu::all() {
        let mut x = noise(35, 1);
        (x[11], x[17]) = (f32::NAN, f32::INFINITY);
        let Statistics { mean, variance } = statistics(cpu, &x, 5);
        assert!(mean[1].is_nan() && mean[2] == f32::INFINITY, "{mean:?}");
        assert_eq!([0, 1, 2, 3, 4].map(|channel| variance[channel].is_nan()), [false, true, true, false, false]);
        let affine = Affine::new(&mean, &variance, &[1.0; 5], &[0.0; 5], EPSILON);
        let (mut out, mut dx) = (vec![0.0; 35], noise(35, 2));
        forward(cpu, &x, &affine, true, Out::new(&mut out));
        backward(cpu, &x, Gradients::InPlace(&mut dx), None, &affine, true, true);
        for values in [out, dx] {
            assert!(values.chunks(5).all(|row| row[1].is_nan() && row[2].is_nan()), "{values:?}");
            assert!(values.chunks(5).all(|row| row[0].is_finite() && row[3].is_finite() && row[4].is_finite()));
        }
    }
}

#[test]
fn rectifying_keeps_nan_and_has_no_gradient_at_zero() {
    for cpu in Cpu::all() {
        let affine = Affine::new(&[2.0], &[1.0], &[1.0], &[-0.0], 0.0);
        let x = [f32::NAN, 2.0, 1.0, 3.0, f32::INFINITY, f32::NEG_INFINITY];
        let (mut out, mut dx) = ([9.0; 6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        forward(cpu, &x, &affine, true, Out::new(&mut out));
        backward(cpu, &x, Gradients::InPlace(&mut dx), None, &affine, true, false);
        assert!(out[0].is_nan() && out[1..] == [0.0, 0.0, 1.0, f32::INFINITY, 0.0] && out[1].is_sign_positive());
        assert_eq!(dx, [1.0, 0.0, 0.0, 4.0, 5.0, 0.0]);
    }
}
