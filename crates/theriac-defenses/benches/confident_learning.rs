//! How long `confident-learning` takes to find wrong labels among 50,000 samples of 10 classes, beside cleanlab.
//!
//! `scripts/bench_confident_learning.py FOLDER` makes the labels and probabilities, and notes what cleanlab flags and how long that
//! takes. `cargo bench -p theriac-defenses --bench confident_learning -- FOLDER` reads them, asserts that the same samples are flagged,
//! and prints the median over rounds that take turns, in milliseconds. Without a folder there is nothing to do.

use std::path::{Path, PathBuf};
use std::time::Instant;

use theriac_core::{Label, Matrix};
use theriac_defenses::confident_learning::ConfidentLearning;

const ROUNDS: usize = 11;
const CLASSES: usize = 10;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    match folder.map(PathBuf::from) {
        Some(folder) => compare(&folder),
        None => println!("skipped: no folder of scripts/bench_confident_learning.py is named"),
    }
}

fn compare(folder: &Path) {
    let bytes = |name: &str| std::fs::read(folder.join(name)).expect("the script wrote the folder");
    let labels: Vec<Label> =
        bytes("labels.u16").chunks_exact(2).map(|pair| Label::from_le_bytes([pair[0], pair[1]])).collect();
    let values = bytes("probabilities.f32");
    let values = values.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let probabilities = Matrix::new(CLASSES, values.collect());
    let times = String::from_utf8(bytes("times.csv")).expect("a table is text");
    let rows: Vec<Vec<&str>> = times.lines().skip(1).map(|line| line.split(',').collect()).collect();

    let mut spent = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for (row, spent) in rows.iter().zip(&mut spent) {
            let config = ConfidentLearning { rule: row[0].replace('_', "-"), ..ConfidentLearning::default() };
            let begin = Instant::now();
            let flags = config.mislabelled(&labels, &probabilities);
            spent.push(begin.elapsed().as_secs_f64() * 1e3);
            let theirs = bytes(&format!("{}.u8", row[0]));
            assert!(flags.iter().zip(&theirs).all(|(&ours, &theirs)| ours == (theirs == 1)), "{} differs", row[0]);
        }
    }
    println!("{:<22} {:>8} {:>8} {:>8} {:>12}", "ms, one thread", "ours", "alone", "free", "times faster");
    for (row, mut spent) in rows.iter().zip(spent) {
        spent.sort_by(f64::total_cmp);
        let ours = spent[ROUNDS / 2];
        let [alone, free] = [1, 2].map(|at| row[at].parse::<f64>().expect("a time is a number"));
        println!("{:<22} {ours:>8.2} {alone:>8.2} {free:>8.2} {:>12.1}", row[0], alone.min(free) / ours);
    }
}
