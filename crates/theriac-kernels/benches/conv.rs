//! Speed of the convolutions of the benchmark networks, batch 128: `cargo bench -p theriac-kernels`.
//!
//! GFLOP/s of one and of all threads, the best of several rounds; a multiply-add counts as two.

use std::hint::black_box;
use std::time::Instant;

use theriac_kernels::conv::Added;
use theriac_kernels::memory::{Block, Out};
use theriac_kernels::{Conv, Cpu};

const ROUNDS: usize = 5;

fn main() {
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
    for (name, size, inputs, outputs, kernel, stride) in layers {
        let [kernel, stride, padding] = [[kernel; 2], [stride; 2], [kernel / 2; 2]];
        let conv = Conv { batch: 128, height: size, width: size, inputs, outputs, kernel, stride, padding };
        let flop = 2.0 * (conv.output_len() * conv.weight_len() / conv.outputs) as f64;
        let (input, weights, gradient) =
            (vec![0.5; conv.input_len()], vec![0.1; conv.weight_len()], vec![0.2; conv.output_len()]);
        let room = Block::new(conv.input_len().max(conv.output_len()).max(conv.weight_len()));
        // SAFETY: nobody else uses the block while a kernel writes it.
        let out = |len: usize| unsafe { Out::uninitialised(room.as_ptr(), len) };
        for &algorithm in conv.algorithms(cpu) {
            let passes: [&(dyn Fn() + Sync); 3] = [
                &|| conv.forward(cpu, algorithm, &input, &weights, Added::default(), out(conv.output_len())),
                &|| conv.input_gradient(cpu, algorithm, &gradient, &weights, None, out(conv.input_len())),
                &|| conv.weight_gradient(cpu, algorithm, &input, &gradient, out(conv.weight_len())),
            ];
            print!("{name:<12} {:<7}", format!("{algorithm:?}"));
            for pool in &pools {
                for pass in passes {
                    let time = |_| {
                        let begin = Instant::now();
                        pool.install(pass);
                        begin.elapsed().as_secs_f64()
                    };
                    let best = (0..ROUNDS).map(time).fold(f64::MAX, f64::min);
                    print!(" {:>7.1}", flop / best / 1e9);
                }
                print!("  | ");
            }
            println!();
            black_box(&room);
        }
    }
}
