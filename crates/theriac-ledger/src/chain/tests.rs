use super::*;
use crate::entry::Form;
use crate::toy::{CHANGE, Toy, draft, secret, small};
use crate::{Draft, LedgerError};
use theriac_core::{Role, Stage};

/// What is found in a text, as a person reads it.
fn found(text: &str) -> Vec<String> {
    Chain::read(text.as_bytes()).findings().iter().map(ToString::to_string).collect()
}

/// Line `at` of the toy with another header, signed by `name`.
fn forged(toy: &Toy, at: usize, name: &str, change: impl Fn(&mut Header)) -> String {
    let mut entry = toy.chain.entries()[at].clone();
    change(&mut entry.header);
    let mut lines = toy.lines();
    lines[at] = Entry::sign(entry.header, entry.changes, &secret(name)).line();
    lines.concat()
}

#[test]
fn a_sound_ledger_is_read_as_it_was_made() {
    let toy = small();
    let read = Chain::read(toy.text.as_bytes());
    assert_eq!(read.findings(), []);
    assert_eq!((read.digests(), read.anchor()), (toy.chain.digests(), toy.chain.anchor()));
    assert_eq!((read.state().count(), read.state().keys(), read.good().unwrap().entry), (4, 4, 6));
    assert_eq!(toy.found(), [""; 0]);
}

#[test]
fn a_line_that_was_changed_is_named_and_the_lines_after_it_are_read_on() {
    let toy = small();
    let later = "[after entry 6 (1970-01-12T13:47:40Z)]";
    let changed = |line: usize, old: &str, new: &str| {
        let mut lines = toy.lines();
        assert!(lines[line].contains(old), "{}", lines[line]);
        lines[line] = lines[line].replacen(old, new, 1);
        found(&lines.concat())
    };
    let signature = format!("ledger.jsonl, line 3: the signature is not one of key {} for this line {later}", {
        secret("bob").public().fingerprint()
    });
    assert_eq!(changed(2, r#""note":"""#, r#""note":"x""#), [signature]);
    let spaced = changed(2, r#""note":"#, r#""note": "#);
    assert_eq!(spaced, [format!("ledger.jsonl, line 3: written in another form than entries are written in {later}")]);
    let other = changed(2, r#"["a","#, r#"["c","#);
    assert_eq!(other, [format!("ledger.jsonl, line 3: the changes are not those that were signed {later}")]);
    let unreadable = changed(2, "{", "[");
    assert!(unreadable[0].starts_with("ledger.jsonl, line 3: no entry can be read: "), "{unreadable:?}");
    assert_eq!(unreadable.len(), 1);
    // A line about keys: what hangs on it is not told again.
    let admission = changed(1, "annotator", "annotatox");
    assert_eq!(admission.len(), 1, "{admission:?}");
    assert_eq!(Chain::read(toy.text.replacen("\"note\":\"\"", "\"note\":\"x\"", 1).as_bytes()).doubted(), Some(1));
}

#[test]
fn lines_that_are_missing_swapped_or_twice_there_are_named() {
    let toy = small();
    let lines = toy.lines();
    let without = |gone: std::ops::Range<usize>| {
        let kept = lines.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, line)| line.as_str());
        found(&kept.collect::<String>())
    };
    let when = "[after entry 1 (1970-01-12T13:46:50Z), by entry 4 (1970-01-12T13:47:20Z)]";
    assert_eq!(without(2..4), [format!("ledger.jsonl, line 3: entries 2 to 3 are missing: this is entry 4 {when}")]);
    assert!(without(3..4)[0].starts_with("ledger.jsonl, line 4: entry 3 is missing: this is entry 4"));
    assert!(without(0..1)[0].starts_with("ledger.jsonl, line 1: entry 0 is missing: this is entry 1"));
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    assert!(found(&swapped.concat())[0].starts_with("ledger.jsonl, line 3: entry 2 is missing: this is entry 3"));
    let mut twice = lines.clone();
    twice.insert(3, lines[2].clone());
    let repeated = found(&twice.concat());
    assert!(repeated[0].starts_with("ledger.jsonl, line 4: entry 3 should stand here, not entry 2"), "{repeated:?}");
    assert!(found("")[0].starts_with("ledger.jsonl, line 1: no entry can be read (the file is empty), so nothing "));
}

#[test]
fn what_a_valid_signature_does_not_allow_is_found() {
    let toy = small();
    let first = |text: String| found(&text).first().cloned().unwrap_or_default();
    let says = |text: String, what: &str| {
        let first = first(text);
        assert!(first.contains(what), "{what}: {first}");
    };
    let nobody = forged(&toy, 6, "eve", |header| header.public = secret("eve").public());
    says(nobody, "which was never admitted [after entry 5 (1970-01-12T13:47:30Z), by entry 6 ");
    let named = forged(&toy, 6, "bob", |header| header.public = secret("bob").public());
    says(named, "signed as ada (engineer) with the key of bob (annotator)");
    says(forged(&toy, 6, "ada", |header| header.time = 5), "the clock runs backwards: 1970-01-01T00:00:05Z after ");
    says(forged(&toy, 6, "ada", |header| header.count = 5), "states a root or a number of samples");
    says(forged(&toy, 6, "ada", |header| header.root = Digest::of(b"")), "states a root");
    says(forged(&toy, 6, "ada", |header| header.before = None), "does not follow the entry before it");
    // An entry that was replaced in the middle, by its own author: the next one does not follow it.
    let replaced = forged(&toy, 3, "ada", |header| header.note = "other".to_owned());
    says(replaced, "ledger.jsonl, line 5: does not follow the entry before it");
    says(forged(&toy, 4, "ada", |header| header.action = toy.chain.entries()[0].header.action.clone()), "once");
    let access = Action::Access { purpose: "training".to_owned() };
    says(forged(&toy, 6, "ada", |header| header.action = access.clone()), "changes samples that is no change");
}

#[test]
fn a_model_is_trained_on_data_that_the_ledger_had_once() {
    let mut toy = small();
    let train = |data| Action::Train { data, recipe: Digest::of(b"recipe"), model: Digest::of(b"model") };
    let old = toy.chain.entries()[3].header.root;
    toy.act("bob", train(old));
    let error = toy.chain.extend(&secret("bob"), toy.time, draft(train(Digest::of(b"other")))).unwrap_err();
    assert!(error.to_string().contains("trains on data that this ledger never had"), "{error}");
}

#[test]
fn what_is_told_of_a_ledger_holds_no_control_characters() {
    let mut toy = small();
    toy.set("x\n\u{1b}[2K", "1");
    let found = toy.found();
    assert!(found[0].starts_with("x\\n\\u{1b}[2K: unexplained"), "{found:?}");
}

#[test]
fn changes_must_start_from_what_the_samples_are_and_be_sorted() {
    let toy = small();
    let content = |key: &str| toy.chain.state().content(key);
    let change = |key: &str, before, after| Change { key: key.to_owned(), before, after };
    let refused = |changes: Vec<Change>| match toy.chain.clone().extend(
        &secret("bob"),
        toy.time,
        Draft { changes, ..draft(CHANGE) },
    ) {
        Err(LedgerError::Refused(what)) => what,
        other => panic!("{other:?}"),
    };
    let wrong = |sample: &str| What::WrongBefore { sample: sample.to_owned() };
    assert_eq!(refused(vec![change("a", None, None)]), wrong("a"));
    assert_eq!(refused(vec![change("a", content("b"), None)]), wrong("a"));
    assert_eq!(refused(vec![change("x", None, None)]), wrong("x"));
    let twice = vec![change("a", content("a"), None), change("a", None, content("b"))];
    assert!(matches!(refused(twice.clone()), What::Misplaced(_)));
    // The same in a ledger that somebody wrote with a program of their own.
    let (head, before) = toy.chain.head().unwrap();
    let mut header = head.clone();
    (header.number, header.before, header.changed) = (7, Some(before), 2);
    header.changes = crate::entry::digest_of(&twice);
    let line = Entry::sign(header, twice, &secret("ada")).line();
    let found = found(&(toy.text.clone() + &line));
    assert!(found[0].contains("line 8: its changes are not sorted, or name a sample twice"), "{found:?}");
}

#[test]
fn keys_are_admitted_and_retired_by_those_who_may() {
    let mut toy = small();
    let admit =
        |name: &str| Action::Admit { actor: name.to_owned(), role: Role::Auditor, public: secret(name).public() };
    let retire = |name: &str| Action::Retire { public: secret(name).public() };
    let refused = |toy: &Toy, by: &str, action| {
        toy.chain.clone().extend(&secret(by), toy.time, draft(action)).unwrap_err().to_string()
    };
    let message = refused(&toy, "bob", admit("cem"));
    assert!(message.contains("engineers and auditors, not by the role `annotator`"), "{message}");
    assert!(refused(&toy, "ada", admit("bob")).contains("admits a key twice"));
    assert!(refused(&toy, "ada", retire("ada")).contains("retires the last key that may admit others"));
    assert!(refused(&toy, "ada", retire("eve")).contains("retires a key that is not admitted, or is retired"));
    let message = refused(&toy, "eve", CHANGE);
    let [eve, ada, bob] = ["eve", "ada", "bob"].map(|name| secret(name).public());
    let (known, full) =
        (format!("{} of ada (engineer), {} of bob", ada.fingerprint(), bob.fingerprint()), eve.to_string());
    assert!(message.contains(&known) && message.contains(&eve.fingerprint()) && message.contains(&full), "{message}");
    toy.act("ada", admit("cem")).act("cem", retire("ada")).act("cem", retire("bob"));
    assert_eq!(toy.found(), [""; 0]);
    let message = refused(&toy, "ada", CHANGE);
    assert!(message.contains("signed by key ") && message.contains("which entry 8 had retired"), "{message}");
    let [first, second] = [&toy.chain.actors().all()[0], toy.chain.actors().find(&bob).unwrap()];
    assert_eq!((first.since, first.retired, second.since, second.retired), (0, Some(8), 1, Some(9)));
    assert_eq!(toy.chain.actors().active().count(), 1);
}

#[test]
fn the_clock_may_stand_but_not_run_backwards_and_notes_are_short() {
    let mut toy = small();
    toy.chain.extend(&secret("ada"), toy.time, draft(Action::Attest)).unwrap();
    let error = toy.chain.extend(&secret("ada"), toy.time - 1, draft(Action::Attest)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to continue the ledger: this clock says 1970-01-12T13:47:39Z, but the last entry is of 1970-01-12T13:47:40Z; set the \
         clock, or wait"
    );
    let long = Draft { note: "x".repeat(1_001), ..draft(Action::Attest) };
    assert!(matches!(toy.chain.extend(&secret("ada"), toy.time, long), Err(LedgerError::Note(1_001))));
}

#[test]
fn an_anchor_finds_a_ledger_that_was_cut_rolled_back_or_replaced() {
    let toy = small();
    let anchor = toy.chain.anchor().unwrap();
    let says = |text: &str| Chain::read(text.as_bytes()).compare(&anchor).map(|finding| finding.to_string());
    assert_eq!(says(&toy.text), None);
    let lines = toy.lines();
    for kept in 1..lines.len() {
        let expected = format!(
            "ledger.jsonl, line {kept}: the end is missing: the anchor names entry 6, and here are {kept} entries, counted from 0 \
             [after entry 6 (1970-01-12T13:47:40Z)]"
        );
        assert_eq!(says(&lines[..kept].concat()), Some(expected));
    }
    // A history as good as the true one, from the same keys: without the anchor it would pass.
    let mut other = small();
    other.text = lines[..6].concat();
    other.chain = Chain::read(other.text.as_bytes());
    other.set("b", "3").record("ada").set("b", "4").record("ada");
    assert_eq!(other.found(), [""; 0]);
    assert!(says(&other.text).unwrap().starts_with("ledger.jsonl, line 7: rewritten: the anchor says "));
    let foreign = Toy::new(&[("a", "1")]);
    assert!(says(&foreign.text).unwrap().starts_with("ledger.jsonl, line 1: another ledger: the anchor is of ledger "));
    // Where the line itself cannot be read, neither can it be compared.
    let torn = lines[..6].concat() + "?\n";
    assert!(says(&torn).unwrap().contains("here is a line that cannot be read"));
    // It holds for all that comes after it.
    let mut grown = small();
    grown.set("x", "1").record("bob");
    assert_eq!(says(&grown.text), None);
}

#[test]
fn a_line_without_its_end_is_told_with_its_bytes() {
    let toy = small();
    let chain = Chain::read(&toy.text.as_bytes()[..toy.text.len() - 5]);
    assert_eq!(chain.entries().len(), 6);
    assert_eq!(chain.findings()[0].what, What::Cut { bytes: toy.lines()[6].len() - 5 });
    let cut = chain.findings()[0].to_string();
    assert!(
        cut.starts_with("ledger.jsonl, line 7: cut in the middle: the last ") && cut.contains("ledger heal"),
        "{cut}"
    );
    assert!(cut.ends_with("[after entry 5 (1970-01-12T13:47:30Z)]"), "{cut}");
}

#[test]
fn a_ledger_begins_with_init_alone() {
    let error = Chain::begin(&secret("ada"), Role::Engineer, 5, draft(CHANGE)).unwrap_err();
    // Nobody is admitted before.
    assert!(matches!(error, LedgerError::Refused(What::UnknownKey { .. })), "{error}");
    let init = Draft { stage: Stage::Collect, ..draft(Action::Init { data: "x".to_owned(), form: Form::Items }) };
    let (mut chain, line) = Chain::begin(&secret("ada"), Role::Auditor, 5, init.clone()).unwrap();
    assert_eq!((chain.state().count(), found(&line)), (0, vec![]));
    assert!(matches!(chain.extend(&secret("ada"), 5, init), Err(LedgerError::Refused(What::Misplaced(_)))));
}
