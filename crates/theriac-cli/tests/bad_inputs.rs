//! What a person gets wrong is answered with the place, the reason and the way out; nothing is written, nothing is lost.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::io::Write;

use common::{Desk, SMALL, with};

/// Runs a config that has to be refused before anything begins.
#[track_caller]
fn refused(changes: &[(&str, &str)], says: &[&str]) {
    refused_on(&Desk::with_config(&with(SMALL, changes)), says);
}

#[track_caller]
fn refused_on(desk: &Desk, says: &[&str]) {
    let files = desk.files("");
    let ended = desk.run(&["run", "study.toml", "--out", "results", "--data-dir", "sets"]);
    ended.refuses(2, says);
    assert_eq!(ended.stdout, "");
    assert!(files == desk.files(""), "a file was written or changed");
    assert!(!desk.path("results").exists());
}

/// Puts the study on another data set.
fn on_dataset(table: &str) -> Desk {
    Desk::with_config(&with(SMALL, &[("name = \"mnist-10k\"\ntrain = 300\ntest = 150", table)]))
}

fn on_mnist() -> Desk {
    on_dataset(r#"name = "mnist""#)
}

fn on_folder() -> Desk {
    on_dataset("name = \"folder\"\npath = \"pets\"")
}

fn idx_images(magic: u32, count: usize) -> Vec<u8> {
    let header = [magic, count as u32, 28, 28].map(u32::to_be_bytes).concat();
    [header, (0..count * 784).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()].concat()
}

fn idx_labels(labels: &[u8]) -> Vec<u8> {
    [[2049, labels.len() as u32].map(u32::to_be_bytes).concat(), labels.to_vec()].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn png(width: u32, height: u32, color: png::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let pixels = vec![128; (width * height) as usize * color.samples()];
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// A desk with four good images of each of two classes.
fn pets() -> Desk {
    let desk = on_folder();
    for (class, number) in ["cat", "dog"].iter().flat_map(|class| (0..4).map(move |number| (class, number))) {
        desk.write(&format!("pets/{class}/{number}.png"), png(6, 6, png::ColorType::Grayscale));
    }
    desk
}

// Files of data sets.

#[test]
fn a_missing_data_set_says_which_file_belongs_where_and_how_to_fetch_it() {
    let desk = on_mnist();
    std::fs::create_dir(desk.path("sets")).unwrap();
    let says = ["study.toml:", "`train-images-idx3-ubyte.gz`", "sets/mnist", "theriac data fetch mnist", "https://"];
    refused_on(&desk, &says);
}

#[test]
fn a_truncated_gzip_file_says_where_it_breaks() {
    let desk = on_mnist();
    let whole = gzip(&idx_images(2051, 20));
    desk.write("sets/mnist/train-images-idx3-ubyte.gz", &whole[..whole.len() / 2]);
    let length = format!("of {}", whole.len() / 2);
    refused_on(&desk, &["sets/mnist/train-images-idx3-ubyte.gz", "gzip stream breaks at byte", &length, "again"]);
}

#[test]
fn a_file_with_a_wrong_magic_number_is_refused_by_its_content() {
    let desk = on_mnist();
    desk.write("sets/mnist/train-images-idx3-ubyte", idx_images(0x0000_0807, 3));
    refused_on(&desk, &["sets/mnist/train-images-idx3-ubyte", "SHA-256", "expected ba891046", "data fetch mnist"]);
}

#[test]
fn labels_of_255_are_found_by_verify() {
    let desk = Desk::new();
    desk.write("sets/mnist/train-labels-idx1-ubyte.gz", gzip(&idx_labels(&[3, 255, 1])));
    let before = desk.files("");
    let ended = desk.run(&["data", "verify", "mnist", "--data-dir", "sets"]);
    assert_eq!(ended.code, Some(1));
    let line = ended.stdout.lines().find(|line| line.starts_with("train-labels-idx1-ubyte.gz")).unwrap();
    assert!(line.contains("DIFFERENT") && line.contains("65a50cbb"), "{line}");
    assert_eq!(ended.stdout.matches("missing").count(), 3, "{}", ended.stdout);
    assert!(before == desk.files(""));
}

#[test]
fn images_and_labels_of_different_number_are_never_paired() {
    let desk = on_mnist();
    desk.write("sets/mnist/train-images-idx3-ubyte", idx_images(2051, 3));
    desk.write("sets/mnist/train-labels-idx1-ubyte", idx_labels(&[1, 2]));
    refused_on(&desk, &["train-images-idx3-ubyte", "failed to accept", "`folder`"]);
}

#[test]
fn an_empty_class_folder_is_named() {
    let desk = pets();
    std::fs::create_dir(desk.path("pets/bird")).unwrap();
    refused_on(&desk, &["pets/bird", "at least 2 PNG images, found 0", "remove the folder"]);
}

#[test]
fn a_text_file_called_png_is_named() {
    let desk = pets();
    desk.write("pets/dog/2.png", "a dog");
    refused_on(&desk, &["pets/dog/2.png", "as a PNG image"]);
}

#[test]
fn a_file_of_another_kind_in_a_class_folder_is_named() {
    let desk = pets();
    desk.write("pets/dog/notes.txt", "good dogs");
    refused_on(&desk, &["pets/dog/notes.txt", ".png"]);
}

#[test]
fn images_of_different_sizes_are_both_named() {
    let desk = pets();
    desk.write("pets/dog/2.png", png(5, 6, png::ColorType::Grayscale));
    refused_on(&desk, &["pets/dog/2.png", "expected 6x6", "pets/cat/", "one size"]);
}

#[test]
fn an_image_with_transparency_is_refused_with_its_format() {
    let desk = pets();
    desk.write("pets/dog/2.png", png(6, 6, png::ColorType::Rgba));
    refused_on(&desk, &["pets/dog/2.png", "transparency", "convert it"]);
}

#[test]
fn a_class_of_the_training_images_only_is_named() {
    let desk = on_folder();
    for path in ["train/cat", "train/dog", "test/cat"] {
        desk.write(&format!("pets/{path}/1.png"), png(6, 6, png::ColorType::Grayscale));
    }
    refused_on(&desk, &["pets/train", "pets/test", "class `dog`"]);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    refused_on(&on_folder(), &["failed to read `pets`", "No such file"]);
}

#[test]
fn a_folder_without_a_path_says_what_is_expected() {
    refused_on(&on_dataset("name = \"folder\""), &["path", "one folder of PNG images a class"]);
}

#[test]
fn more_training_samples_than_there_are_say_how_many_there_are() {
    refused(&[("train = 300", "train = 30000")], &["`train`", "30000", "`mnist-10k` has", "0 for all"]);
}

#[test]
fn more_images_of_a_folder_than_there_are_say_how_many_there_are() {
    let desk = pets();
    desk.write(
        "study.toml",
        with(&String::from_utf8(desk.read("study.toml")).unwrap(), &[("\"pets\"", "\"pets\"\ntest = 7")]),
    );
    refused_on(&desk, &["`test`: 7 samples", "has 2", "0 for all"]);
}

// Values of the config.

#[test]
fn rates_out_of_range_are_refused_where_they_stand() {
    for rate in ["-0.1", "1.5", "nan", "inf", "\"a tenth\""] {
        let says =
            ["study.toml:21:8: experiment[backdoor].attack[badnets].rate", "expected a number from 0 to 1, found"];
        refused(&[("rate = 0.1", &format!("rate = {rate}"))], &says);
    }
}

#[test]
fn a_target_class_beyond_the_last_is_refused() {
    refused(
        &[("target = 0", "target = 10")],
        &["study.toml:22:10: ", "attack[badnets].target", "a class from 0 to 9, found 10"],
    );
}

#[test]
fn padding_that_would_hide_the_image_is_refused_before_anything_is_trained() {
    let recipe = "epochs = 1\naugment = \"crop\"\npadding = 28";
    refused(&[("epochs = 1", recipe)], &["study.toml:16:11: train.padding", "28 pixels of padding", "28 pixels"]);
}

#[test]
fn no_epochs_are_refused() {
    refused(&[("epochs = 1", "epochs = 0")], &["train.epochs", "from 1 to", "found 0"]);
}

#[test]
fn no_seeds_are_refused() {
    refused(&[("seeds = 1", "seeds = 0")], &["study.toml:2:9: seeds", "number of seeds from 1", "found 0"]);
}

#[test]
fn a_monitor_without_the_rounds_that_it_needs_is_refused_before_anything_is_trained() {
    let monitor = ("\"deep-knn\"", "\"drift-monitor\"");
    refused(&[monitor], &["defense[drift-monitor]", "needs 12 rounds, not 1", "say in [train]"]);
    let rounds = ("epochs = 1", "epochs = 1\nrounds = 9\nwindow = 2");
    refused(&[monitor, rounds], &["defense[drift-monitor]", "needs 13 rounds, not 9"]);
}

#[test]
fn an_axis_without_values_is_refused() {
    refused(&[("rate = 0.1", "rate = []")], &["attack[badnets].rate", "list is empty"]);
}

#[test]
fn unknown_methods_are_refused_with_the_nearest_name() {
    refused(&[("\"badnets\"", "\"badnet\"")], &["there is no attack \"badnet\"", "`badnets`"]);
    refused(&[("\"deep-knn\"", "\"deepknn\"")], &["there is no defense \"deepknn\"", "`deep-knn`"]);
    refused(&[("\"mnist-10k\"", "\"mnist-10\"")], &["there is no data set \"mnist-10\"", "`mnist-10k`"]);
    refused(&[("\"mlp\"", "\"transformer\"")], &["there is no model \"transformer\"", "known are mlp, cnn"]);
}

#[test]
fn misspelt_keys_are_refused_with_the_nearest_key() {
    refused(&[("rate = 0.1", "raet = 0.1")], &["study.toml:21:1", "unknown key `raet`", "did you mean `rate`?"]);
    refused(&[("hidden = 16", "hiden = 16")], &["unknown key `hiden`", "did you mean `hidden`?"]);
    refused(&[("[train]", "[trian]")], &["unknown key `trian`", "did you mean `train`?"]);
}

#[test]
fn two_experiments_of_one_name_are_refused() {
    refused(
        &[("[[experiment.defense]]", "[[experiment]]"), ("deep-knn", "backdoor")],
        &["\"backdoor\" is listed twice"],
    );
}

#[test]
fn a_study_without_experiments_is_refused() {
    let text = SMALL.split("[[experiment]]").next().unwrap();
    refused_on(&Desk::with_config(text), &["there is no experiment", "[[experiment]]"]);
    refused_on(&Desk::with_config(""), &["there is no experiment", "the key `name` is missing"]);
}

#[test]
fn a_name_that_leads_out_of_the_results_folder_is_refused() {
    refused(&[("\"small\"", "\"../small\"")], &["study.toml:1:8: name", "can name a folder"]);
}

#[test]
fn a_grid_that_nobody_can_mean_is_refused() {
    let rates = (0..1000).map(|rate| format!("{}", f64::from(rate) / 1000.0)).collect::<Vec<_>>().join(", ");
    refused(&[("seeds = 1", "seeds = 10000"), ("rate = 0.1", &format!("rate = [{rates}]"))], &["at most"]);
}

#[test]
fn all_faults_are_told_at_once() {
    let changes = [("seeds = 1", "seeds = 0"), ("epochs = 1", "epochs = 0"), ("target = 0", "target = 10")];
    refused(&changes, &["3 faults", ":2:9: seeds", ":14:10: train.epochs", ".target"]);
}

// The config file itself.

#[test]
fn broken_toml_is_refused_with_line_and_column() {
    refused(&[("seeds = 1", "seeds = = 1")], &["study.toml:2:9", "seeds = = 1", "^"]);
    refused(&[("[[experiment]]", "[[experiment]")], &["study.toml:16:14", "expected `]`"]);
}

#[test]
fn a_config_that_is_not_there_is_named() {
    refused_on(&Desk::new(), &["failed to read the config `study.toml`", "No such file"]);
}

#[test]
fn a_config_that_is_no_text_is_named() {
    let desk = Desk::new();
    desk.write("study.toml", [0xff, 0xfe, 0x00]);
    refused_on(&desk, &["failed to read the config `study.toml`", "UTF-8"]);
}

#[test]
fn a_folder_in_place_of_the_config_is_named() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("study.toml")).unwrap();
    refused_on(&desk, &["failed to read the config `study.toml`", "directory"]);
}

// The command line and its surroundings.

#[test]
fn results_cannot_go_where_a_file_is() {
    let desk = Desk::with_config(SMALL);
    desk.write("results", "precious");
    desk.run(&["run", "study.toml", "--out", "results"]).refuses(1, &["failed to create the folder `results/small`"]);
    assert_eq!(desk.read("results"), b"precious");
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let desk = Desk::with_config(SMALL);
    let ended = desk.run(&["run", "study.toml", "--out", "results", "--device", "tpu"]);
    ended.refuses(2, &["`tpu`", "no device of that name", "available here: cpu"]);
    assert!(!desk.path("results").exists());
}

#[test]
#[cfg(not(feature = "gpu"))]
fn a_device_that_was_not_built_says_how_to_build_it() {
    let desk = Desk::with_config(SMALL);
    let ended = desk.run(&["run", "study.toml", "--out", "results", "--device", "gpu"]);
    ended.refuses(2, &["`gpu`", "--features gpu", "available here: cpu"]);
    assert!(!desk.path("results").exists());
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let desk = Desk::with_config(SMALL);
    desk.write("results/small/.lock", "");
    let lock = std::fs::File::options().write(true).open(desk.path("results/small/.lock")).unwrap();
    lock.lock().unwrap();
    let ended = desk.run(&["run", "study.toml", "--out", "results"]);
    ended.refuses(1, &["another run is writing to `results/small`", "wait for it"]);
    assert!(!desk.path("results/small/cells.jsonl").exists());
}

#[test]
fn a_journal_that_is_none_is_refused_and_kept() {
    let desk = Desk::with_config(SMALL);
    desk.write("results/small/journal.jsonl", "shopping list\nmilk\n");
    let ended = desk.run(&["run", "study.toml", "--out", "results"]);
    ended.refuses(1, &["line 1 of the journal `results/small/journal.jsonl`", "move it away"]);
    assert_eq!(desk.read("results/small/journal.jsonl"), b"shopping list\nmilk\n");
}

#[test]
fn a_report_of_a_folder_without_results_names_what_is_missing() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("empty")).unwrap();
    desk.run(&["report", "empty"]).refuses(1, &["empty/", "failed to read"]);
    desk.run(&["report", "nowhere"]).refuses(1, &["nowhere/"]);
    assert!(desk.files("").is_empty());
}

#[test]
fn a_method_that_is_not_there_suggests_the_nearest() {
    let desk = Desk::new();
    desk.run(&["explain", "badnet"]).refuses(2, &["no method `badnet`", "did you mean `badnets`?"]);
    desk.run(&["explain", "xyzzyxyzzy"]).refuses(2, &["no method `xyzzyxyzzy`", "theriac list"]);
}

#[test]
fn a_data_set_that_is_not_there_suggests_the_nearest() {
    let desk = Desk::new();
    for word in ["fetch", "verify"] {
        desk.run(&["data", word, "mnits", "--data-dir", "sets"]).refuses(2, &["`mnits`", "mnist"]);
    }
    assert!(desk.files("").is_empty());
}

#[test]
fn poisoning_without_an_attack_of_that_seed_is_refused() {
    let desk = Desk::with_config(SMALL);
    let ended = desk.run(&["poison", "study.toml", "--out", "poisoned", "--seed", "9"]);
    ended.refuses(2, &["no attack with seed 9"]);
    assert!(!desk.path("poisoned").exists());
    assert!(!desk.path("results").exists());
}

#[test]
fn a_wrong_command_line_is_refused_with_its_usage() {
    let desk = Desk::with_config(SMALL);
    desk.run(&[]).refuses(2, &["Usage: theriac"]);
    desk.run(&["rum"]).refuses(2, &["'rum'", "'run'"]);
    desk.run(&["run"]).refuses(2, &["<CONFIG>", "Usage: theriac run"]);
    desk.run(&["run", "study.toml", "--jobs", "0"]).refuses(2, &["--jobs", "1..=1024"]);
    desk.run(&["run", "study.toml", "--thread", "1"]).refuses(2, &["--thread", "--threads"]);
    desk.run(&["list", "attack"]).refuses(2, &["'attack'", "attacks"]);
    assert!(!desk.path("results").exists());
}
