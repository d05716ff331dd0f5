//! What the engine itself costs: planning and running ten thousand cells whose steps do next to nothing.
//!
//!     cargo bench -p theriac-lab --features toy
//!
//! Prints one line for each number of cells: seconds to check and plan the config, milliseconds a cell to run it, and the memory of the
//! process after planning and at its highest. The disk has a large part in it (`TMPDIR=/dev/shm` takes it out), and a benchmark that was
//! run a minute ago, too: wait for five minutes, or take another disk.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use theriac_lab::toy::{Toy, parse};
use theriac_lab::{Options, Plan, run};

/// Two defenses (one of them `none`), ten seeds: twenty cells an attack.
fn study(cells: usize) -> String {
    let rates: Vec<String> = (1..cells / 20).map(|index| format!("{:.6}", index as f64 / 1e4)).collect();
    format!(
        "name = \"many\"\nseeds = 10\n[data]\nname = \"digits\"\n[model]\nname = \"cnn\"\n[[experiment]]\nname = \"one\"\n\
         [[experiment.attack]]\nname = \"badnets\"\nrate = [{}]\n[[experiment.defense]]\nname = \"strip\"\n",
        rates.join(", ")
    )
}

/// In MiB; 0 on systems that do not tell.
fn memory(key: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::to_owned));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}

fn main() {
    println!(
        "{:>8} {:>8} {:>10} {:>14} {:>12} {:>10}",
        "cells", "steps", "plan_s", "run_ms_a_cell", "planned_mib", "peak_mib"
    );
    let root = std::env::temp_dir().join(format!("theriac-engine-{}", std::process::id()));
    for cells in [100, 1_000, 10_000] {
        let text = study(cells);
        let toy = Toy { forget: true, ..Toy::default() };
        let begin = Instant::now();
        let config = parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
        let plan = Plan::new(&config, &toy);
        let planned = begin.elapsed().as_secs_f64();
        let after = memory("VmRSS");
        let place = root.join(cells.to_string());
        let options = Options { threads: Some(1), ..Options::new(place.join("results"), place.join("store")) };
        let begin = Instant::now();
        let outcome = run(&config, &plan, &toy, &options, &(), &AtomicBool::new(false));
        let ran = begin.elapsed().as_secs_f64() * 1e3 / plan.cells.len() as f64;
        outcome.unwrap_or_else(|error| panic!("{error}"));
        let (cells, steps, peak) = (plan.cells.len(), plan.steps.len(), memory("VmHWM"));
        println!("{cells:>8} {steps:>8} {planned:>10.3} {ran:>14.3} {after:>12.0} {peak:>10.0}");
    }
    // At the end only: ext4 is slow to make files for some minutes after many were removed. What stays is not worth an error.
    drop(fs::remove_dir_all(&root));
}
