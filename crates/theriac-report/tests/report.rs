//! The report from end to end, on made-up results.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fixture::METHODS;
use theriac_core::record::{CellRecord, GalleryRecord, InspectRecord, Manifest, Outcome};
use theriac_report::{ReportError, Written, csv, summarise, table, write};

fn report(folder: &Path, cells: &[CellRecord], gallery: &[GalleryRecord], manifest: &Manifest) -> Written {
    fixture::write(folder, cells, gallery, manifest);
    write(folder, METHODS).unwrap()
}

fn page(cells: &[CellRecord], manifest: &Manifest) -> String {
    let folder = tempfile::tempdir().unwrap();
    let written = report(folder.path(), cells, &fixture::gallery(), manifest);
    std::fs::read_to_string(written.report).unwrap()
}

/// Every opened element is closed in order. Knows what this page needs of HTML and SVG, no more.
fn check_well_formed(page: &str) {
    const VOID: [&str; 4] = ["meta", "img", "br", "!DOCTYPE"];
    let mut open: Vec<String> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag is closed");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap().to_owned();
        assert!(tag.matches('"').count().is_multiple_of(2), "quotes are paired in <{tag}>");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "before: {}", &rest[..rest.len().min(200)]);
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            if name == "style" {
                let skip = rest.find("</style>").unwrap();
                rest = &rest[skip..];
            }
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let pattern = format!(" {name}=\"");
    page.match_indices(&pattern).map(|(at, _)| page[at + pattern.len()..].split('"').next().unwrap()).collect()
}

#[test]
fn the_table_for_the_terminal() {
    let text = table(&fixture::cells(), METHODS);
    assert!(text.lines().all(|line| line.len() <= 110), "no line is wider than 110 columns");
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn the_summary_for_other_tools() {
    let cells: Vec<CellRecord> = fixture::cells().into_iter().filter(|cell| cell.experiment == "one seed").collect();
    let rows = summarise(&fixture::cells());
    let asr = rows.iter().find(|row| row.metric == "asr").unwrap();
    assert_eq!((asr.spread.n, asr.attack.name.as_str(), asr.defense.name.as_str()), (3, "badnets", "none"));
    insta::assert_snapshot!(String::from_utf8(csv(&summarise(&cells)).unwrap()).unwrap());
}

#[test]
fn the_findings_in_words() {
    let page = page(&fixture::cells(), &fixture::manifest());
    let start = page.find("<h2 id=\"findings\">").unwrap();
    let section = &page[start..start + page[start..].find("</section>").unwrap()];
    insta::assert_snapshot!(section);
}

#[test]
fn equal_results_give_equal_bytes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let bytes = folders.each_ref().map(|folder| {
        let written = report(folder.path(), &fixture::cells(), &fixture::gallery(), &fixture::manifest());
        let all: Vec<PathBuf> = written
            .figures
            .iter()
            .cloned()
            .chain([
                written.summary,
                written.comparisons.unwrap(),
                written.cells_csv,
                written.cells_parquet,
                written.report,
            ])
            .collect();
        let read = |path: &PathBuf| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap());
        all.iter().map(read).collect::<BTreeMap<_, _>>()
    });
    assert!(bytes[0].len() > 10);
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
    let page = page(&fixture::cells(), &fixture::manifest());
    check_well_formed(&page);
    assert!(
        !page.contains("<script") && !page.contains("<link") && !page.contains("@import") && !page.contains("url(")
    );
    assert!(attributes(&page, "src").iter().all(|source| source.starts_with("data:image/png;base64,")));
    let targets: Vec<&str> =
        attributes(&page, "href").into_iter().map(|target| target.strip_prefix('#').unwrap()).collect();
    let ids = attributes(&page, "id");
    assert!(targets.iter().all(|target| ids.contains(target)));
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "every anchor is unique");
    assert!(attributes(&page, "alt").len() == page.matches("<img ").count());
    let labels = attributes(&page, "aria-labelledby");
    assert!(labels.iter().flat_map(|names| names.split(' ')).all(|name| ids.contains(&name)));
    assert!(!page.contains("NaN") && !page.contains("inf "));
}

#[test]
fn headings_never_skip_a_level() {
    let page = page(&fixture::cells(), &fixture::manifest());
    let levels = page.match_indices("<h").filter_map(|(at, _)| page[at + 2..].chars().next()?.to_digit(10));
    let mut last = 0;
    for level in levels {
        assert!(level <= last + 1, "h{level} after h{last}");
        last = level;
    }
}

#[test]
fn hostile_names_stay_text() {
    let bad = "<script>alert(\"1\")</script>&'";
    let mut cells = fixture::cells();
    for cell in &mut cells {
        cell.experiment = format!("{}{bad}", cell.experiment);
        cell.dataset.name = bad.to_owned();
        cell.attack.params.insert("note".to_owned(), bad.into());
        cell.classes[0] = bad.to_owned();
        if let Outcome::Failed(reason) | Outcome::Diverged(reason) = &mut cell.outcome {
            *reason = bad.to_owned();
        }
    }
    let mut manifest = fixture::manifest();
    for compare in &mut manifest.compares {
        compare.experiment.push_str(bad);
    }
    for text in [&mut manifest.name, &mut manifest.question, &mut manifest.config, &mut manifest.config_path] {
        *text = bad.to_owned();
    }
    manifest.machine.insert(bad.to_owned(), bad.to_owned());
    let page = page(&cells, &manifest);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;"));
    check_well_formed(&page);
}

#[test]
fn any_composition_gives_a_report() {
    let all = fixture::cells();
    let only = |keep: &dyn Fn(&CellRecord) -> bool| all.iter().filter(|cell| keep(cell)).cloned().collect::<Vec<_>>();
    let mut bare = only(&|cell| cell.seed == 2);
    for cell in &mut bare {
        (cell.metrics, cell.confusion, cell.curve, cell.roc) = Default::default();
        (cell.poisoned_by_class, cell.classes) = Default::default();
    }
    let mut failed = all.clone();
    failed.iter_mut().for_each(|cell| cell.outcome = Outcome::Failed("failed to train: out of memory".to_owned()));
    let compositions = [
        Vec::new(),
        bare,
        failed,
        only(&|cell| cell.seed == 1),
        only(&|cell| cell.attack.name == "none"),
        only(&|cell| cell.defense.name == "random-filter"),
        only(&|cell| cell.attack.name != "none" && cell.defense.name == "none"),
    ];
    for cells in compositions {
        check_well_formed(&page(&cells, &fixture::manifest()));
        assert!(!table(&cells, METHODS).is_empty());
    }
}

#[test]
fn what_an_inspection_finds_is_told_class_by_class() {
    let mut cells: Vec<CellRecord> = fixture::cells();
    cells.retain(|cell| cell.experiment == "backdoor" && ["none", "strip"].contains(&cell.defense.name.as_str()));
    assert!(!page(&cells, &fixture::manifest()).contains("Inspected models"));
    for cell in cells.iter_mut().filter(|cell| cell.defense.name == "strip") {
        let statistics = (0..10).map(|class| if class == 0 { 4.0 + cell.seed as f64 } else { 0.5 }).collect();
        let flagged = if cell.seed == 3 { vec![0] } else { Vec::new() };
        cell.inspection = Some(InspectRecord { statistics, flagged, ..InspectRecord::default() });
    }
    let page = page(&cells, &fixture::manifest());
    check_well_formed(&page);
    // The fixture's guard failed at one of its seeds, on the first attack.
    assert!(page.contains("<td>2</td><td><strong>6.00</strong> <span class=\"kind\">1</span></td><td>0.50</td>"));
    assert!(page.contains("<td>3</td><td><strong>6.00</strong> <span class=\"kind\">1</span></td><td>0.50</td>"));
}

#[test]
fn one_seed_has_neither_interval_nor_verdict() {
    let one: Vec<CellRecord> = fixture::cells().into_iter().filter(|cell| cell.experiment == "one seed").collect();
    assert!(summarise(&one).iter().all(|row| row.spread.interval.is_none() && row.spread.n == 1));
    let page = page(&one, &fixture::manifest());
    assert!(page.contains("n&nbsp;=&nbsp;1 seed, no interval") && page.contains("one seed: cannot tell"));
}

#[test]
fn each_variant_of_a_filter_has_its_own_random_filter() {
    let mut cells = Vec::new();
    for (removed, tpr) in [("1.5", 0.8), ("3.0", 0.9)] {
        for cell in fixture::cells().iter().filter(|cell| cell.experiment == "one seed") {
            let mut cell = cell.clone();
            match cell.defense.name.as_str() {
                "none" if removed == "3.0" => continue,
                "spectral-signatures" => {
                    cell.defense.params.insert("removed".into(), removed.parse::<f64>().unwrap().into());
                    cell.metrics.insert("tpr".into(), tpr);
                }
                "random-filter" => {
                    let key = format!("spectral-signatures removed={removed}");
                    cell.defense.params.insert("matches".into(), key.into());
                    cell.metrics.insert("tpr".into(), tpr / 10.0);
                }
                _ => {}
            }
            cells.push(cell);
        }
    }
    // A random filter that matches nothing is a defense like any other.
    let mut alone = cells[2].clone();
    alone.defense.params.insert("matches".into(), "".into());
    cells.push(alone);
    insta::assert_snapshot!(table(&cells, METHODS));
    let page = page(&cells, &fixture::manifest());
    assert!(page.contains("<td>80.0</td><td>8.0</td>") && page.contains("<td>90.0</td><td>9.0</td>"));
}

#[test]
fn a_filter_that_is_no_better_than_chance_is_called_so() {
    let page = page(&fixture::cells(), &fixture::manifest());
    assert!(
        page.contains("On label-flip, rate 0.1, spectral-signatures <strong>does not beat</strong> the random filter")
    );
    assert!(!page.contains("On badnets, rate 0.05, spectral-signatures <strong>does not beat</strong>"));
}

#[test]
fn a_filter_beats_the_random_one_everywhere_only_if_everything_was_measured() {
    let filters = ["none", "spectral-signatures", "random-filter"];
    let wanted = |cell: &&CellRecord| {
        let rate = cell.attack.params.get("rate").and_then(serde_json::Value::as_f64);
        cell.experiment == "backdoor" && rate == Some(0.05) && filters.contains(&cell.defense.name.as_str())
    };
    let mut cells: Vec<CellRecord> = fixture::cells().iter().filter(wanted).cloned().collect();
    let whole = "every filter beats the random filter on every attack";
    assert!(page(&cells, &fixture::manifest()).contains(whole));
    // Nobody can find what was removed.
    cells.extend(cells.clone().into_iter().map(|mut cell| {
        cell.attack = fixture::method("remove", serde_json::json!({"rate": 0.08}));
        cell.metrics.remove("tpr");
        cell
    }));
    let page = page(&cells, &fixture::manifest());
    assert!(page.contains("every filter beats the random filter wherever that could be measured"));
    assert!(!page.contains(whole));
}

#[test]
fn success_before_and_after_is_that_of_the_same_seeds() {
    let mut cells: Vec<CellRecord> = fixture::cells();
    cells.retain(|cell| cell.experiment == "backdoor" && ["none", "strip"].contains(&cell.defense.name.as_str()));
    let strongest =
        |cell: &CellRecord| cell.attack.params.get("rate").and_then(serde_json::Value::as_f64) == Some(0.05);
    for cell in cells.iter_mut().filter(|cell| strongest(cell)) {
        match cell.defense.name.as_str() {
            "none" => drop(cell.metrics.insert("asr".into(), [0.9, 0.3, 0.8][cell.seed as usize - 1])),
            _ if cell.seed == 2 => cell.outcome = Outcome::Failed("out of memory".to_owned()),
            _ => {}
        }
    }
    let page = page(&cells, &fixture::manifest());
    assert!(page.contains("brings the attack success rate (ASR) from 85.0&nbsp;% to"));
    assert!(page.contains("n = 2 to 3 seeds"), "the detection curves are of two seeds, the others of three");
}

#[test]
fn a_class_is_no_axis_and_several_families_have_no_common_level() {
    let of_target = |target: u16| {
        let wanted = |cell: &CellRecord| cell.attack.name == "badnets" && cell.experiment == "backdoor";
        let mut cells: Vec<CellRecord> = fixture::cells().into_iter().filter(wanted).collect();
        cells.iter_mut().for_each(|cell| drop(cell.attack.params.insert("target".into(), target.into())));
        cells
    };
    let both = [of_target(0), of_target(5)].concat();
    let folder = tempfile::tempdir().unwrap();
    let sweep = |cells: &[CellRecord]| {
        let written = report(folder.path(), cells, &[], &fixture::manifest());
        let sweep = written.figures.into_iter().find(|path| path.ends_with("backdoor-sweep-badnets.svg"));
        sweep.map(|path| std::fs::read_to_string(path).unwrap())
    };
    let one = sweep(&of_target(0)).unwrap();
    assert!(one.contains("(log scale)") && one.contains("clean model") && one.contains("Dashed grey"));
    let two = sweep(&both).unwrap();
    assert!(two.contains("(log scale)") && two.contains("undefended, target 5"));
    assert!(!two.contains("clean model<") && !two.contains("Dashed grey"));
    let mut same_rate = both;
    same_rate.retain(|cell| cell.attack.params["rate"] == 0.05);
    assert_eq!(sweep(&same_rate), None);
}

#[test]
fn figures_of_an_earlier_report_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let written = report(folder.path(), &fixture::cells(), &[], &fixture::manifest());
    let figures = folder.path().join("figures");
    for name in ["stale.svg", "notes.txt"] {
        std::fs::write(figures.join(name), "").unwrap();
    }
    let again = report(folder.path(), &fixture::cells(), &[], &fixture::manifest());
    assert_eq!(written, again);
    let mut names: Vec<PathBuf> = std::fs::read_dir(figures)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("notes.txt"))
        .collect();
    names.sort();
    let mut expected = again.figures;
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn experiments_whose_names_look_alike_have_anchors_of_their_own() {
    let mut manifest = fixture::manifest();
    manifest.experiments = ["a b", "a-b", "a b 2", "a b"].map(|name| (name.to_owned(), String::new())).into();
    let page = page(&fixture::cells(), &manifest);
    let ids = attributes(&page, "id");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
}

#[test]
fn the_command_names_the_device_unless_it_is_the_default() {
    let mut manifest = fixture::manifest();
    let command = |manifest: &Manifest| {
        let page = page(&fixture::cells()[..1], manifest);
        let start = page.find("<code>theriac run").unwrap();
        page[start..start + page[start..].find("</code>").unwrap()].to_owned()
    };
    assert!(!command(&manifest).contains("--device"));
    manifest.device = "gpu".to_owned();
    assert!(command(&manifest).ends_with(" --device gpu"));
}

#[test]
fn faults_name_the_file_and_the_line() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(write(folder.path(), METHODS), Err(ReportError::Read { .. })));
    fixture::write(folder.path(), &fixture::cells()[..1], &[], &fixture::manifest());
    let cells = folder.path().join("cells.jsonl");
    let text = std::fs::read_to_string(&cells).unwrap();
    std::fs::write(&cells, format!("{text}\n{{\n")).unwrap();
    assert!(matches!(write(folder.path(), METHODS), Err(ReportError::Parse { line: 3, .. })));
    std::fs::write(&cells, text.replacen("\"schema\":1", "\"schema\":99", 1)).unwrap();
    assert!(matches!(write(folder.path(), METHODS), Err(ReportError::Schema { found: 99, .. })));
}

/// Leaves a report behind to look at, below the target folder's `tmp/report`.
#[test]
fn a_report_to_look_at() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    let written = report(&folder, &fixture::cells(), &fixture::gallery(), &fixture::manifest());
    assert!(written.figures.iter().all(|figure| figure.exists()));
}
