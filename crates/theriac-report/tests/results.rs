//! Results beyond the report: comparisons, what the terminal shows, divergence, and folders that are being written.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use std::path::Path;

use fixture::METHODS;
use theriac_core::files::write_atomically;
use theriac_core::record::{CellRecord, Manifest, Outcome, ShardRecord};
use theriac_report::{ReportError, Results, Written, diff, show, table, write};

fn report(folder: &Path, cells: &[CellRecord], manifest: &Manifest) -> Written {
    fixture::write(folder, cells, &fixture::gallery(), manifest);
    write(folder, METHODS).unwrap()
}

#[test]
fn comparisons_are_told_in_words_and_written_as_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let written = report(folder.path(), &fixture::cells(), &fixture::manifest());
    let table = written.comparisons.unwrap();
    assert_eq!(std::fs::read_to_string(&table).unwrap().lines().count(), 1 + 8, "four rates, two metrics");
    let page = std::fs::read_to_string(written.report).unwrap();
    let start = page.find("<h2 id=\"comparisons\">").unwrap();
    insta::assert_snapshot!(&page[start..start + page[start..].find("<details>").unwrap()]);
    // Nothing is left of them when the config does not ask any more.
    let silent = Manifest { compares: Vec::new(), ..fixture::manifest() };
    let written = report(folder.path(), &fixture::cells(), &silent);
    assert!(written.comparisons.is_none() && !table.exists());
    assert!(!std::fs::read_to_string(written.report).unwrap().contains("Comparisons"));
}

#[test]
fn what_results_say_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = fixture::manifest();
    manifest.compares[0].metrics.truncate(1);
    manifest.shard = Some(ShardRecord {
        index: 2,
        of: 3,
        plan: "abc".to_owned(),
        cells: Vec::new(),
        gallery: Vec::new(),
        files: [].into(),
        steps: Vec::new(),
    });
    let cells: Vec<CellRecord> = fixture::cells().into_iter().filter(|cell| cell.experiment == "backdoor").collect();
    fixture::write(folder.path(), &cells, &[], &manifest);
    let text = show(&Results::read(folder.path()).unwrap(), METHODS);
    assert!(
        text.starts_with("Quickstart, part 2 of 3 of the plan: How little poison")
            && text.contains(&table(&cells, METHODS))
    );
    assert!(text.is_ascii());
    insta::assert_snapshot!(&text[text.find("\ncomparisons").unwrap()..]);
}

#[test]
fn a_diverged_cell_is_a_result_and_a_failed_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(report(folder.path(), &fixture::cells(), &fixture::manifest()).report).unwrap();
    assert!(page.contains("<a href=\"#diverged\">1 diverged</a>, <a href=\"#failed\">1 failed</a>"));
    let section = |anchor: &str| {
        let start = page.find(&format!("<h2 id=\"{anchor}\">")).unwrap();
        &page[start..start + page[start..].find("</section>").unwrap()]
    };
    assert!(section("diverged").contains("<td>the training loss is not a number after epoch 3</td>"));
    assert!(section("failed").contains("fewer than 100 clean inputs") && !section("failed").contains("after epoch 3"));
    assert!(section("findings").contains("It diverged at 1 of 3 seeds."));
    let mut cells = fixture::cells();
    cells.iter_mut().for_each(|cell| cell.outcome = Outcome::Diverged("loss".to_owned()));
    cells[0].outcome = Outcome::Failed("memory".to_owned());
    let text = table(&cells, METHODS);
    assert!(text.contains("seed 1 failed: memory") && text.contains("seed 2 diverged: loss"));
}

#[test]
fn numbers_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write(folder.path(), &fixture::cells(), &fixture::gallery(), &fixture::manifest());
    assert!(Results::read(folder.path()).unwrap().cells == fixture::cells());
}

#[test]
fn results_of_earlier_versions_are_read_shown_and_told_apart() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/reference");
    let read = |name: &str| Results::read(&folder.join(name)).unwrap();
    let (mnist, cifar) = (read("mnist-reference"), read("cifar10-part"));
    assert!(show(&mnist, METHODS).starts_with("mnist-reference: ") && mnist.manifest.compares.is_empty());
    assert!(diff(&mnist, &mnist).is_identical());
    let found = diff(&mnist, &cifar);
    assert_eq!((found.only_a.len(), found.only_b.len(), found.equal), (mnist.cells.len(), cifar.cells.len(), 0));
    assert!(found.study.iter().any(|change| change.what.starts_with("config experiment.badnets.")));
    assert!(found.to_string().lines().count() < 40, "{found}");
}

#[test]
fn a_run_that_has_not_finished_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write(folder.path(), &fixture::cells()[..1], &[], &fixture::manifest());
    std::fs::remove_file(folder.path().join("gallery.jsonl")).unwrap();
    assert_eq!(Results::read(folder.path()).unwrap().cells.len(), 1, "a gallery may be absent");
    std::fs::remove_file(folder.path().join("manifest.json")).unwrap();
    let message = Results::read(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("still going on or was interrupted; `theriac run` with its config finishes it"),
        "{message}"
    );
    std::fs::remove_file(folder.path().join("cells.jsonl")).unwrap();
    assert!(matches!(Results::read(folder.path()), Err(ReportError::Read { .. })));
    std::fs::write(folder.path().join("journal.jsonl"), "").unwrap();
    assert!(matches!(Results::read(folder.path()), Err(ReportError::Unfinished { .. })));
}

#[test]
fn results_that_are_replaced_while_they_are_read_are_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let version = |seed: u64| {
        let mut cells = fixture::cells();
        cells.truncate(40);
        cells.iter_mut().for_each(|cell| cell.seed = seed);
        (cells, Manifest { name: seed.to_string(), ..fixture::manifest() })
    };
    let replace = |(cells, manifest): (Vec<CellRecord>, Manifest)| {
        let path = folder.path().join("manifest.json");
        drop(std::fs::remove_file(&path));
        let lines: String = cells.iter().map(|cell| serde_json::to_string(cell).unwrap() + "\n").collect();
        write_atomically(&folder.path().join("cells.jsonl"), lines.as_bytes()).unwrap();
        write_atomically(&path, serde_json::to_string(&manifest).unwrap().as_bytes()).unwrap();
    };
    replace(version(0));
    std::thread::scope(|scope| {
        scope.spawn(|| (1..30).for_each(|seed| replace(version(seed))));
        for _ in 0..60 {
            match Results::read(folder.path()) {
                Ok(results) => assert!(results.cells.iter().all(|cell| cell.seed.to_string() == results.manifest.name)),
                Err(error) => assert!(matches!(error, ReportError::Unfinished { .. }), "{error}"),
            }
        }
    });
}
