//! Speed of the convolutions of the benchmark networks, batch 128: `cargo bench -p theriac-kernels`.
//!
//! GFLOP/s of one and of all threads, the best of several rounds; a multiply-add counts as two.

use std::hint::black_box;
use std::time::Instant;

use theriac_kernels::conv::Added;
use theriac_kernels::memory::{Block, Out};
use theriac_kernels::{Conv, Cpu};

const ROUNDS: usize = 15;

fn main() {
    if std::env::var("POOLED").is_ok() { return pooled(); }
    let layers = [
        ("mnist conv1", 28, 1, 32, 3, 1),
        ("mnist conv2", 14, 32, 64, 3, 1),
        ("w16 stem", 32, 3, 16, 3, 1),
        ("w16 stage1", 32, 16, 16, 3, 1),
        ("w16 down2", 32, 16, 32, 3, 2),
        ("w16 short2", 32, 16, 32, 1, 2),
        ("w16 stage2", 16, 32, 32, 3, 1),
        ("w16 stage3", 8, 64, 64, 3, 1),
        ("w16 stage4", 4, 128, 128, 3, 1),
        ("r18 stage1", 32, 64, 64, 3, 1),
        ("r18 down2", 32, 64, 128, 3, 2),
        ("r18 stage2", 16, 128, 128, 3, 1),
        ("r18 stage3", 8, 256, 256, 3, 1),
        ("r18 stage4", 4, 512, 512, 3, 1),
    ];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pools =
        [1, cores].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"));
    let cpu = Cpu::best();
    println!("{cores} threads; GFLOP/s forward, input gradient, weight gradient: one thread | all threads");
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-')); for (name, size, inputs, outputs, kernel, stride) in layers { if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) { continue; }
        let [kernel, stride, padding] = [[kernel; 2], [stride; 2], [kernel / 2; 2]];
        let conv = Conv { batch: 128, height: size, width: size, inputs, outputs, kernel, stride, padding };
        let flop = 2.0 * (conv.output_len() * conv.weight_len() / conv.outputs) as f64;
        let (input, weights, gradient) =
            (vec![0.5; conv.input_len()], vec![0.1; conv.weight_len()], vec![0.2; conv.output_len()]);
        let room = Block::new(conv.input_len().max(conv.output_len()).max(conv.weight_len()));
        // SAFETY: nobody else uses the block while a kernel writes it.
        let out = |len: usize| unsafe { Out::uninitialised(room.as_ptr(), len) };
        for &algorithm in conv.algorithms(cpu) { if std::env::var("ALG").is_ok_and(|a| a != format!("{algorithm:?}")) { continue; }
            let passes: [&(dyn Fn() + Sync); 3] = [
                &|| conv.forward(cpu, algorithm, &input, &weights, Added::default(), out(conv.output_len())),
                &|| conv.input_gradient(cpu, algorithm, &gradient, &weights, None, out(conv.input_len())),
                &|| conv.weight_gradient(cpu, algorithm, &input, &gradient, out(conv.weight_len())),
            ];
            print!("{name:<12} {:<7}", format!("{algorithm:?}"));
            for pool in &pools[..1] {
                for pass in passes.into_iter().skip(std::env::var("PASS").map_or(0,|p|p.parse().unwrap())).take(if std::env::var("PASS").is_ok(){1}else{3}) {
                    let time = |_| {
                        let begin = Instant::now();
                        pool.install(pass);
                        let t = begin.elapsed().as_secs_f64();
                        let p = pool.install(peak);
                        (flop / t / 1e9, p, flop / t / 1e9 / p)
                    };
                    let mut v: Vec<_> = (0..ROUNDS).map(time).collect();
                    v.sort_by(|a, b| a.2.total_cmp(&b.2));
                    let g = v.iter().map(|x| x.0).fold(0.0, f64::max); let p = v.iter().map(|x| x.1).fold(0.0, f64::max); let r = g / p;
                    print!(" {:>6.1}/{:.0}={:.2}", g, p, r);
                }
                print!("  | ");
            }
            println!();
            black_box(&room);
        }
    }
}

fn peak() -> f64 {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx2,fma")]
    fn go(n: usize) -> f32 {
        let mut acc = [_mm256_set1_ps(0.5); 12];
        let (a, b) = (black_box(_mm256_set1_ps(0.999)), black_box(_mm256_set1_ps(0.001)));
        for _ in 0..n {
            for x in &mut acc { *x = _mm256_fmadd_ps(*x, a, b); }
        }
        let mut s = acc[0];
        for x in &acc[1..] { s = _mm256_add_ps(s, *x); }
        _mm256_cvtss_f32(s)
    }
    let n = 100_000;
    let begin = Instant::now();
    black_box(unsafe { go(n) });
    (n * 12 * 16) as f64 / begin.elapsed().as_secs_f64() / 1e9
}
fn pooled() {
    use theriac_kernels::conv::pooled::*;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (name, size, inputs, outputs) in [("conv1", 28, 1, 32), ("conv2", 14, 32, 64)] {
        let conv = Conv { batch: 128, height: size, width: size, inputs, outputs, kernel: [3; 2], stride: [1; 2], padding: [1; 2] };
        for &algorithm in conv.algorithms(Cpu::best()) {
            if std::env::var("ALG").is_ok_and(|a| a != format!("{name}{algorithm:?}")) { continue; }
            let p = Pooled(conv);
            let noise = |n: usize| { let mut s = 12345u32; (0..n).map(|_| { s ^= s << 13; s ^= s >> 17; s ^= s << 5; s as f32 / u32::MAX as f32 - 0.5 }).collect::<Vec<f32>>() };
            let (input, weights, bias) = (noise(conv.input_len()), noise(conv.weight_len()), vec![0.1; outputs]);
            let gradient = noise(conv.output_len() / 4);
            let mut output = vec![0.0; conv.output_len() / 4];
            let mut gi = vec![0.0; conv.input_len()];
            let mut gw = vec![0.0; conv.weight_len()];
            let mut chosen = Vec::new();
            let mut best = [f64::MAX; 3];
            for _ in 0..60 {
                let t = Instant::now();
                pool.install(|| chosen = p.forward(Cpu::best(), algorithm, &input, &weights, Some(&bias), Out::new(&mut output)));
                best[0] = best[0].min(t.elapsed().as_secs_f64() * 1e3);
                let kept = Kept { input: &input, output: &output, chosen: &chosen };
                let t = Instant::now();
                pool.install(|| p.backward(Cpu::best(), algorithm, kept, &weights, &gradient, Wanted { input: None, weights: Some(Out::new(&mut gw)) }));
                best[1] = best[1].min(t.elapsed().as_secs_f64() * 1e3);
                let t = Instant::now();
                pool.install(|| p.backward(Cpu::best(), algorithm, kept, &weights, &gradient, Wanted { input: Some(Out::new(&mut gi)), weights: Some(Out::new(&mut gw)) }));
                best[2] = best[2].min(t.elapsed().as_secs_f64() * 1e3);
            }
            println!("{name} {algorithm:?} forward {:.2} weights {:.2} both {:.2} ms", best[0], best[1], best[2]);
        }
    }
}
