//! How long it takes to verify data with their history, and how large a proof is.
//!
//! `cargo bench -p theriac-ledger` makes 60,000 samples of MNIST's size and 50,000 of CIFAR-10's with 300 entries of several authors, and
//! prints the median over rounds in milliseconds, on as many threads as there are processors. `memory` reads the samples from memory,
//! `files` from a folder with one file a sample (in the system's cache), as `theriac ledger verify` does.

use std::path::Path;
use std::time::Instant;

use theriac_core::{ChangeSet, Dataset, Label, Role, Shape, Stage};
use theriac_ledger::{Action, Chain, Draft, Form, Scan, SecretKey, differences, of_file, verify};

const ROUNDS: usize = 7;
const ENTRIES: u64 = 300;
/// Samples that one entry changes.
const TOUCHED: usize = 40;

fn main() {
    println!("{:<34} {:>9} {:>9} {:>9} {:>9}", "ms, medians", "samples", "ledger", "compare", "all");
    for (name, count, side, channels) in [("mnist", 60_000, 28, 1), ("cifar10", 50_000, 32, 3)] {
        memory(name, count, Shape { channels, height: side, width: side });
        files(name, count, channels * side * side);
    }
    append();
}

/// Bytes that no two samples share.
fn pixels(seed: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn keys() -> Vec<SecretKey> {
    (0..5).map(|author| SecretKey::new(format!("author-{author}"), [author; 32])).collect()
}

/// A ledger that begins with `scan(0)` and takes up `scan(entry)` after each entry.
fn history(mut scan: impl FnMut(u64) -> Scan) -> (Chain, String) {
    let (keys, draft) = (keys(), |action, changes| Draft { stage: Stage::Store, action, note: String::new(), changes });
    let init = Action::Init { data: "bench".to_owned(), form: Form::Items };
    let begin = draft(init, differences(&Default::default(), &scan(0)));
    let (mut chain, mut text) = Chain::begin(&keys[0], Role::Engineer, 0, begin).expect("a first entry");
    for key in &keys[1..] {
        let action = Action::Admit { actor: key.name().to_owned(), role: Role::Annotator, public: key.public() };
        text += &chain.extend(&keys[0], 0, draft(action, Vec::new())).expect("an engineer admits");
    }
    for entry in 1..=ENTRIES {
        let changes = differences(chain.state(), &scan(entry));
        let change = draft(Action::Change { whole: true }, changes);
        text += &chain.extend(&keys[entry as usize % keys.len()], entry, change).expect("the samples are there");
    }
    (chain, text)
}

fn memory(name: &str, count: usize, shape: Shape) {
    let labels: Vec<Label> = (0..count).map(|at| (at % 10) as Label).collect();
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let block: Vec<u8> = (0..count).flat_map(|at| pixels(at, shape.len())).collect();
    let mut data = Dataset::new(name, shape, classes, block, &labels).expect("the sizes fit");
    let mut scan = Scan::dataset(&data);
    let (chain, text) = history(|entry| {
        let mut changes = ChangeSet::new("bench", Role::Supplier, Stage::Collect);
        let mut all = Vec::new();
        for touched in (0..TOUCHED).filter(|_| entry > 0) {
            let at = (entry as usize * 7_919 + touched * 104_729) % count;
            all.push(at);
            match touched % 4 {
                0 => changes.relabel(&data, at, (data.label(at) + 1) % 10),
                _ => changes.replace(&data, at, pixels(count + entry as usize * TOUCHED + touched, shape.len())),
            }
        }
        data = changes.apply(&data).expect("the changes fit");
        // Only those that were touched are hashed anew: this is no part of what is measured.
        for (key, content) in Scan::dataset(&data.select(&all)).items {
            let at = scan.items.binary_search_by(|(other, _)| other.cmp(&key)).expect("it is there");
            scan.items[at].1 = content;
        }
        scan.clone()
    });
    report(&format!("{name}, memory"), &text, || Scan::dataset(&data));
    proofs(&chain, count);
}

fn files(name: &str, count: usize, size: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |at: usize| folder.path().join(format!("{}/{at}.bin", at % 10));
    (0..10).for_each(|class| std::fs::create_dir(folder.path().join(class.to_string())).expect("a folder"));
    let mut items: Vec<(String, theriac_core::Digest)> = Vec::with_capacity(count);
    for at in 0..count {
        let bytes = pixels(at, size);
        std::fs::write(path(at), &bytes).expect("a file");
        items.push((format!("{}/{at}.bin", at % 10), of_file(&bytes)));
    }
    let (_, text) = history(|entry| {
        for touched in (0..TOUCHED).filter(|_| entry > 0) {
            let at = (entry as usize * 7_919 + touched * 104_729) % count;
            let bytes = pixels(count + entry as usize * TOUCHED + touched, size);
            std::fs::write(path(at), &bytes).expect("a file");
            items[at].1 = of_file(&bytes);
        }
        Scan::new(items.iter().cloned())
    });
    report(&format!("{name}, files"), &text, || Scan::folder(folder.path(), Path::new("none")).expect("a folder"));
}

fn report(name: &str, text: &str, scan: impl Fn() -> Scan) {
    let [mut ledger, mut compare, mut all] = [const { Vec::new() }; 3];
    let mut samples = 0;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let chain = Chain::read(text.as_bytes());
        ledger.push(begin.elapsed());
        let middle = Instant::now();
        let report = verify(&chain, &scan(), &[]);
        compare.push(middle.elapsed());
        all.push(begin.elapsed());
        assert_eq!(report.findings, []);
        samples = report.samples;
    }
    let [ledger, compare, all] = [ledger, compare, all].map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64() * 1e3
    });
    println!("{name:<34} {samples:>9} {ledger:>9.0} {compare:>9.0} {all:>9.0}");
}

/// The proofs of samples with the longest histories, and of others.
fn proofs(chain: &Chain, count: usize) {
    let mut largest = (0, 0);
    let mut sum = 0;
    for at in (0..count).step_by(10) {
        let key = at.to_string();
        let bytes = chain.prove(&key).expect("there is an entry").text().len();
        sum += bytes;
        largest = largest.max((bytes, chain.history(&key).len()));
    }
    let mean = sum / count.div_ceil(10);
    println!("  proofs: {mean} bytes in the mean, {} at most, of a sample with {} versions", largest.0, largest.1);
}

/// What it takes to take up one change of one among 60,000 samples.
fn append() {
    let mut items: Vec<(String, theriac_core::Digest)> =
        (0..60_000).map(|at| (format!("{at:05}"), of_file(&pixels(at, 8)))).collect();
    let (mut chain, _) = history(|_| Scan::new(items.iter().cloned()));
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        items[round].1 = of_file(b"changed");
        let scan = Scan::new(items.iter().cloned());
        let begin = Instant::now();
        let changes = differences(chain.state(), &scan);
        let draft = Draft { stage: Stage::Store, action: Action::Change { whole: true }, note: String::new(), changes };
        chain.extend(&keys()[0], ENTRIES, draft).expect("the sample is there");
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    println!("one change among 60,000 samples: {:.1} ms", times[ROUNDS / 2].as_secs_f64() * 1e3);
}
