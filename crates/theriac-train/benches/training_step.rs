use std::time::Instant;
use theriac_core::*;
use theriac_nn::*;
use theriac_train::*;
fn main() {
    if std::env::args().len() < 8 {
        return;
    }
    let a: Vec<String> = std::env::args().collect();
    let name = &a[1];
    let width: u64 = a[2].parse().unwrap();
    let threads: usize = a[3].parse().unwrap();
    let n: usize = a[4].parse().unwrap();
    let epochs: usize = a[5].parse().unwrap();
    let batch: usize = a[6].parse().unwrap();
    let lr: f64 = a[7].parse().unwrap();
    let places = theriac_data::Places::new(None);
    let mut v = Values::new();
    v.insert("train".into(), (n as u64).into());
    let loaded = (theriac_data::find("mnist-10k").unwrap().load)(&v, &places).unwrap();
    let facts = Facts { shape: loaded.train.shape(), classes: 10, train: loaded.train.len(), test: loaded.test.len() };
    let mut mv = Values::new();
    mv.insert(if name == "mlp" { "hidden" } else { "width" }.into(), width.into());
    if name == "cnn" {
        mv.insert("hidden".into(), 64u64.into());
    }
    let dev = device::open("cpu").unwrap();
    let norm = Normalisation(theriac_data::statistics(&loaded.train));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let net = Network::named(name, &mv, &facts, norm, &dev, &Seeds::new(1)).unwrap();
        let t = Instant::now();
        let r: Recipe = TrainConfig { epochs, batch, lr, curve: false, ..Default::default() }.into();
        let out = train(
            net,
            TrainingSet { train: &loaded.train, test: &loaded.test, probe: None },
            &r,
            &Seeds::new(1),
            &|_| {},
        )
        .unwrap();
        let s = t.elapsed().as_secs_f64();
        println!(
            "{name} w{width} t{threads} n{n} e{epochs} b{batch} lr{lr}: {s:.2}s, {:.2} ms/step, acc {:.4}",
            1e3 * s / (epochs * n.div_ceil(batch)) as f64,
            out.curve.last().unwrap().test_accuracy
        );
    });
}
