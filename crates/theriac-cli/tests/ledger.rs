//! The ledger as a person uses it, on a folder of pictures and on a table of their own.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::path::Path;
use std::thread;

use common::{Desk, Ended};

/// A gray picture of four pixels.
fn png(value: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[value; 4]).unwrap();
    bytes
}

/// Six pictures in `pets`, whose ledger ada began, and the key of bob, whom it does not know.
fn desk() -> Desk {
    let desk = Desk::new();
    for at in 0..3 {
        desk.write(&format!("pets/cat/{at}.png"), png(at));
        desk.write(&format!("pets/dog/{at}.png"), png(100 + at));
    }
    desk.succeed(&["ledger", "key", "ada"]);
    desk.succeed(&["ledger", "key", "bob"]);
    desk.succeed(&["ledger", "init", "pets", "--key", "ada.theriac-key"]);
    desk
}

/// Runs `theriac ledger` on the pets, with ada's key.
fn run(desk: &Desk, arguments: &[&str]) -> Ended {
    as_author(desk, "ada", arguments)
}

fn as_author(desk: &Desk, name: &str, arguments: &[&str]) -> Ended {
    let mut command = desk.command(&["ledger", "--data", "pets"]);
    command.args(arguments).env("THERIAC_LEDGER_KEY", format!("{name}.theriac-key"));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

fn admit_bob(desk: &Desk) {
    let text = String::from_utf8(desk.read("bob.theriac-key")).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("public ")).unwrap();
    let ended = run(desk, &["admit", "bob", "--role", "annotator", "--public", public]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// The code and all that was said, without what differs from run to run: times, and what hangs on keys.
fn told(ended: &Ended) -> String {
    let text = format!("{:?}\n{}{}", ended.code, ended.stdout, ended.stderr);
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    let is_hex =
        |word: &str| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut plain = String::new();
    for word in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || "-:".contains(c))) {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let shown = if is_time(bare) {
            "TIME"
        } else if is_hex(bare) {
            "HEX"
        } else {
            bare
        };
        plain.push_str(&word.replacen(bare, shown, 1));
    }
    plain
}

#[test]
fn an_edit_by_hand_is_named_and_a_restored_file_is_silent() {
    let desk = desk();
    assert_eq!(run(&desk, &["verify"]).code, Some(0));
    let whole = desk.read("pets/cat/1.png");
    let mut edited = whole.clone();
    *edited.last_mut().unwrap() ^= 1;
    desk.write("pets/cat/1.png", edited);
    desk.write("pets/cat/new.png", png(9));
    std::fs::remove_file(desk.path("pets/dog/2.png")).unwrap();
    insta::assert_snapshot!(told(&run(&desk, &["verify"])), @r"
    Some(1)
    cat/1.png: content changed: entry 0 says HEX, found HEX [after entry 0 (TIME)]
    cat/new.png: unexplained: no entry knows it [after entry 0 (TIME)]
    dog/2.png: missing: entry 0 says that it is there [after entry 0 (TIME)]
    6 samples, 1 entry: 3 findings; last known to be good: entry 0, TIME
    ");
    insta::assert_snapshot!(told(&run(&desk, &["record", "--dry-run"])), @r"
    Some(0)
    changed  cat/1.png
    added    cat/new.png
    removed  dog/2.png
    would record: 1 added, 1 changed, 1 removed
    ");
    let json = run(&desk, &["verify", "--json"]).json();
    assert_eq!(
        (&json["findings"][0]["kind"], &json["findings"][0]["sample"]),
        (&"changed".into(), &"cat/1.png".into())
    );
    desk.write("pets/cat/1.png", whole);
    desk.write("pets/dog/2.png", png(102));
    std::fs::remove_file(desk.path("pets/cat/new.png")).unwrap();
    let silent = run(&desk, &["verify", "--attest"]);
    insta::assert_snapshot!(told(&silent), @r"
    Some(0)
    6 samples, 1 entry: nothing found; last known to be good: entry 0, TIME
    entry 1: ada attests that nothing was found
    ");
}

#[test]
fn a_history_is_recorded_shown_proved_and_anchored() {
    let desk = desk();
    admit_bob(&desk);
    desk.write("pets/cat/1.png", png(50));
    desk.write("pets/cat/3.png", png(51));
    as_author(&desk, "bob", &["record", "--note", "a sharper cat", "--stage", "label"]);
    std::fs::remove_file(desk.path("pets/cat/1.png")).unwrap();
    assert_eq!(run(&desk, &["record"]).stdout, "entry 3: 1 removed\n");
    assert_eq!(run(&desk, &["record"]).stdout, "nothing changed\n");
    desk.write("model.bin", b"weights");
    desk.write("recipe.toml", b"epochs = 3");
    run(&desk, &["tell", "train", "--recipe", "recipe.toml", "--model", "model.bin"]);
    insta::assert_snapshot!(told(&run(&desk, &["log"])), @r#"
    Some(0)
       0  TIME  ada (engineer)  begins the ledger of `pets` with 6 samples
       1  TIME  ada (engineer)  admits bob as annotator, key HEX
       2  TIME  bob (annotator)  1 added, 1 changed  "a sharper cat"
       3  TIME  ada (engineer)  1 removed
       4  TIME  ada (engineer)  trains model HEX on data HEX
    "#);
    insta::assert_snapshot!(told(&run(&desk, &["show", "cat/1.png"])), @r#"
    Some(0)
       0  TIME  ada          content HEX
       2  TIME  bob          content HEX  "a sharper cat"
       3  TIME  ada          removed
    "#);
    insta::assert_snapshot!(told(&run(&desk, &["blame", "cat/1.png"])), @r"
    Some(0)
    added    ada          entry 0, TIME
    content  bob          entry 2, TIME
    removed  ada          entry 3, TIME
    ");
    insta::assert_snapshot!(told(&run(&desk, &["blame"])), @r"
    Some(0)
    author                    entries    added  changed  removed   theirs  last entry
    ada (engineer)                  4        6        0        1        5  TIME
    bob (annotator)                 1        1        1        0        1  TIME
    ");
    insta::assert_snapshot!(told(&run(&desk, &["diff", "0", "3"])), @r"
    Some(0)
    removed  cat/1.png
    added    cat/3.png
    1 added, 1 removed
    ");
    assert_eq!(run(&desk, &["diff", "3", "0", "--json"]).json()["changes"].as_array().unwrap().len(), 2);
    run(&desk, &["show", "cat/4.png"]).refuses(2, &["no entry knows the sample `cat/4.png`; did you mean `cat/"]);
    run(&desk, &["diff", "0", "9"]).refuses(2, &["there is no entry 9; the last one is 4"]);

    assert_eq!(run(&desk, &["anchor", "--out", "anchor.txt"]).code, Some(0));
    run(&desk, &["anchor", "--out", "anchor.txt"]).refuses(1, &["failed to write the new file `anchor.txt`"]);
    run(&desk, &["prove", "cat/1.png", "--out", "proof.json"]);
    let proved = run(&desk, &["prove", "--check", "proof.json", "--anchor", "anchor.txt"]);
    insta::assert_snapshot!(told(&proved), @r"
    Some(0)
    proved by entry 4, signed by ada at TIME:
      cat/1.png: entry 0, TIME, ada, content HEX
      cat/1.png: entry 2, TIME, bob, content HEX
      cat/1.png: entry 3, TIME, ada, removed
    ");
    assert_eq!(run(&desk, &["prove", "--check", "proof.json"]).stdout, proved.stdout);
    let forged = String::from_utf8(desk.read("proof.json")).unwrap().replace("\"bob\"", "\"eve\"");
    desk.write("forged.json", forged);
    run(&desk, &["prove", "--check", "forged.json"]).refuses(1, &["do not lead to the root of entry 4"]);
    run(&desk, &["prove", "cat/9.png", "--out", "never.json"]);
    assert!(run(&desk, &["prove", "--check", "never.json"]).stdout.contains("never was among the samples"));

    // The last two entries are cut off, whole lines: only the anchor knows.
    let path = "pets/.theriac-ledger/ledger.jsonl";
    let text = String::from_utf8(desk.read(path)).unwrap();
    desk.write(path, text.split_inclusive('\n').take(3).collect::<String>());
    desk.write("pets/cat/1.png", png(50));
    assert_eq!(run(&desk, &["verify"]).code, Some(0));
    insta::assert_snapshot!(told(&run(&desk, &["verify", "--anchor", "anchor.txt"])), @r"
    Some(1)
    ledger.jsonl, line 3: the end is missing: the anchor names entry 4, and here are 3 entries, counted from 0 [after entry 4 (TIME)]
    from line 1 on, nothing that the ledger says is vouched for, what it says of samples included
    7 samples, 3 entries, against 1 anchor: 1 finding
    ");
}

#[test]
fn a_ledger_that_was_changed_is_told_line_by_line_and_not_continued() {
    let desk = desk();
    admit_bob(&desk);
    desk.write("pets/cat/1.png", png(50));
    as_author(&desk, "bob", &["record"]);
    let path = "pets/.theriac-ledger/ledger.jsonl";
    let text = String::from_utf8(desk.read(path)).unwrap();
    desk.write(path, common::with(&text, &[("annotator", "engineer")]));
    insta::assert_snapshot!(told(&run(&desk, &["verify"])), @r"
    Some(1)
    ledger.jsonl, line 2: the signature is not one of key HEX for this line [after entry 2 (TIME)]
    from line 2 on, nothing that the ledger says is vouched for, what it says of samples included
    6 samples, 3 entries: 1 finding; last known to be good: entry 0, TIME
    ");
    desk.write("pets/cat/1.png", png(51));
    run(&desk, &["record"]).refuses(1, &["it is not sound (ledger.jsonl, line 2: the signature is not one of key"]);
    assert!(run(&desk, &["log"]).stderr.contains("warning: the ledger is not sound from line 2 on"));

    // Cut in the middle of a line.
    desk.write(path, &text[..text.len() - 30]);
    run(&desk, &["record"]).refuses(1, &["its last line is cut", "`theriac ledger heal` sets them aside"]);
    insta::assert_snapshot!(told(&run(&desk, &["heal"])), @r"
    Some(0)
    the cut line is now in `pets/.theriac-ledger/ledger.jsonl.cut-1`; record what it was about anew
    ");
    let kept = [desk.read(path), desk.read(&format!("{path}.cut-1"))].concat();
    assert_eq!(kept, text.as_bytes()[..text.len() - 30]);
    assert_eq!(as_author(&desk, "bob", &["record"]).stdout, "entry 2: 1 changed\n");
    assert_eq!(run(&desk, &["verify"]).code, Some(0));
}

#[test]
fn a_ledger_of_which_nothing_can_be_read_is_told_in_one_line_with_the_way_out() {
    let desk = desk();
    admit_bob(&desk);
    let path = "pets/.theriac-ledger/ledger.jsonl";
    let text = String::from_utf8(desk.read(path)).unwrap();
    desk.write(path, text.replace('{', "<"));
    insta::assert_snapshot!(told(&run(&desk, &["verify"])), @r"
    Some(1)
    ledger.jsonl, line 1: no entry can be read, nor in the 1 after it (expected value at line 1 column 1), so nothing is known of the samples; bring back a copy of the ledger, or move this one away and begin another with `theriac ledger init` [since when is not known]
    0 samples, 0 entries: 1 finding
    ");
    let json = run(&desk, &["verify", "--json"]).json();
    assert_eq!((&json["findings"][0]["kind"], &json["findings"][0]["lines"]), (&"no-entries".into(), &2.into()));
    run(&desk, &["record"])
        .refuses(1, &["no entry can be read, nor in the 1 after it", "begin another with `theriac ledger init`"]);
    run(&desk, &["record", "--dry-run"]).refuses(1, &["no entry can be read"]);
    // A first line that is cut, and what is left of it after healing: nothing.
    desk.write(path, &text[..30]);
    let cut = run(&desk, &["verify"]).stdout;
    assert!(cut.lines().count() == 2 && cut.contains("`theriac ledger heal` sets them aside"), "{cut}");
    assert_eq!(run(&desk, &["heal"]).code, Some(0));
    insta::assert_snapshot!(told(&run(&desk, &["verify"])), @r"
    Some(1)
    ledger.jsonl, line 1: no entry can be read (the file is empty), so nothing is known of the samples; bring back a copy of the ledger, or move this one away and begin another with `theriac ledger init` [since when is not known]
    0 samples, 0 entries: 1 finding
    ");
    // The way out.
    std::fs::rename(desk.path("pets/.theriac-ledger"), desk.path("broken-ledger")).unwrap();
    desk.succeed(&["ledger", "init", "pets", "--key", "ada.theriac-key"]);
    assert_eq!(run(&desk, &["verify"]).code, Some(0));
}

#[test]
fn lost_wrong_and_misplaced_keys_are_told_with_the_way_out() {
    let desk = desk();
    desk.write("pets/cat/1.png", png(50));
    insta::assert_snapshot!(told(&as_author(&desk, "bob", &["record"])), @r"
    Some(1)
    error: failed to sign: key HEX of `bob` is not admitted. Admitted are HEX of ada (engineer); one of them who is engineer or auditor can admit it with `theriac ledger admit bob --role ROLE --public HEX`
    ");
    insta::assert_snapshot!(told(&as_author(&desk, "lost", &["record"])), @r"
    Some(1)
    error: failed to find the secret key `lost.theriac-key`. Name another file with --key or THERIAC_LEDGER_KEY. If the key is lost, make a new one (`theriac ledger key NAME`) and let an engineer or auditor whose key the ledger knows admit it (`theriac ledger admit`); then they retire the lost one (`theriac ledger retire`)
    ");
    desk.run(&["ledger", "--data", "pets", "record"]).refuses(2, &["name the file of your key with --key"]);
    desk.run(&["ledger", "key", "ada"]).refuses(1, &["ada.theriac-key", "a key is never overwritten"]);
    let inside = desk.path("pets/ada.theriac-key");
    std::fs::copy(desk.path("ada.theriac-key"), &inside).unwrap();
    let arguments = ["ledger", "--data", "pets", "record", "--key", "pets/ada.theriac-key"];
    desk.run(&arguments).refuses(2, &["lies in `pets`, where others read; move it elsewhere"]);
    std::fs::remove_file(inside).unwrap();
    // The way out: an engineer admits a new key, and retires the lost one.
    admit_bob(&desk);
    run(&desk, &["retire", "eve"]).refuses(2, &["no key that may sign is meant by `eve`"]);
    run(&desk, &["retire", "ada"]).refuses(1, &["retires the last key that may admit others"]);
    assert_eq!(run(&desk, &["retire", "bob"]).code, Some(0));
    as_author(&desk, "bob", &["record"]).refuses(1, &["which entry 2 had retired"]);
    let not_there = desk.run(&["ledger", "--data", "dogs", "verify"]);
    not_there.refuses(1, &["failed to find a ledger in `dogs/.theriac-ledger`", "theriac ledger init"]);
    let again = desk.run(&["ledger", "init", "pets", "--key", "ada.theriac-key"]);
    again.refuses(1, &["there is one already, and a ledger is never overwritten"]);
}

#[test]
fn a_table_is_verified_row_by_row_with_a_ledger_kept_elsewhere() {
    let desk = desk();
    desk.write("people.csv", "name,age\nAda,36\n\"Bob,\nthe younger\",7\nCem,41\n");
    desk.succeed(&["ledger", "init", "people.csv", "--key", "ada.theriac-key", "--ledger", "audit"]);
    let verify = |data: &str, ledger: &str| desk.run(&["ledger", "verify", "--data", data, "--ledger", ledger]);
    assert_eq!(verify("people.csv", "audit").code, Some(0));
    desk.write("people.csv", "name,age\nAda,36\n\"Bob,\nthe younger\",9\nCem,41\n");
    let ended = verify("people.csv", "audit");
    assert!(ended.code == Some(1) && ended.stdout.starts_with("3: content changed"), "{}", ended.stdout);
    verify("pets", "audit").refuses(2, &["is about the rows of a table, and `pets` is none"]);
    assert!(!desk.path("people.csv.theriac-ledger").exists());
    // The ledger of other data, and the anchor of another ledger.
    desk.write("others/one.png", png(1));
    let foreign = verify("others", "pets/.theriac-ledger");
    assert!(
        foreign.stdout.starts_with("other data: not one sample is here that this ledger knows; it is about `pets`")
    );
    desk.succeed(&["ledger", "anchor", "--data", "people.csv", "--ledger", "audit", "--out", "audit.txt"]);
    let foreign = run(&desk, &["verify", "--anchor", "audit.txt"]);
    assert!(foreign.code == Some(1) && foreign.stdout.contains("another ledger: the anchor is of ledger "));
    let typed = String::from_utf8(desk.read("audit.txt")).unwrap().replace("count 4", "count 5");
    desk.write("typed.txt", typed);
    run(&desk, &["verify", "--anchor", "typed.txt"]).refuses(1, &["there is a typing error in it", "(in `typed.txt`)"]);
}

#[test]
fn programs_that_write_at_once_lose_nothing() {
    let desk = desk();
    admit_bob(&desk);
    let each = 8;
    thread::scope(|scope| {
        for name in ["ada", "bob"] {
            let desk = &desk;
            scope.spawn(move || {
                for count in 0..each {
                    let told = format!("{name} {count}");
                    let ended = as_author(desk, name, &["tell", "access", &told]);
                    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
                }
            });
        }
    });
    let log = run(&desk, &["log"]).stdout;
    for told in ["ada", "bob"].iter().flat_map(|name| (0..each).map(move |count| format!("access: {name} {count}"))) {
        assert!(log.contains(&told), "{told} is not in\n{log}");
    }
    assert_eq!(log.lines().count(), 2 + 2 * each);
    assert_eq!(run(&desk, &["verify"]).code, Some(0));
    assert!(Path::new(&desk.path("pets/.theriac-ledger/ledger.jsonl")).exists());
}
