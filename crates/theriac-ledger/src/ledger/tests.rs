use super::*;
use crate::toy::{CHANGE, draft, secret};
use crate::{Form, Scan, differences, of_file};
use std::thread;

fn begin(folder: &Path) -> Ledger {
    let init = draft(Action::Init { data: "toy".to_owned(), form: Form::Items });
    Ledger::init(folder, &secret("ada"), Role::Engineer, 100, init).unwrap()
}

/// Adds one sample.
fn add(key: &str) -> Draft {
    let scan = Scan::new([(key.to_owned(), of_file(key.as_bytes()))]);
    Draft { changes: differences(&Default::default(), &scan), ..draft(CHANGE) }
}

fn text(folder: &Path) -> Vec<u8> {
    fs::read(folder.join(FILE)).unwrap()
}

#[test]
fn a_ledger_is_begun_continued_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notes/ledger");
    assert!(matches!(Ledger::open(&place), Err(LedgerError::NotThere(_))));
    let mut ledger = begin(&place);
    ledger.append(&secret("ada"), 101, add("a")).unwrap();
    let entry = ledger.append(&secret("ada"), 101, add("b")).unwrap();
    assert_eq!((entry.header.number, entry.header.count), (2, 2));
    let again = Ledger::open(&place).unwrap();
    assert_eq!(again.chain().digests(), ledger.chain().digests());
    assert_eq!(Ledger::read(&place).unwrap().state().root(), ledger.chain().state().root());
    let init = draft(Action::Init { data: "toy".to_owned(), form: Form::Items });
    let before = text(&place);
    let error = Ledger::init(&place, &secret("eve"), Role::Engineer, 100, init).unwrap_err();
    assert!(matches!(error, LedgerError::There(_)) && text(&place) == before);
}

#[test]
fn who_read_before_somebody_else_wrote_has_to_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = begin(folder.path());
    let mut two = Ledger::open(folder.path()).unwrap();
    one.append(&secret("ada"), 101, add("a")).unwrap();
    let before = text(folder.path());
    assert!(matches!(two.append(&secret("ada"), 102, add("b")), Err(LedgerError::Moved(_))));
    assert_eq!(text(folder.path()), before);
    // Also where the length is the same, by chance or on purpose.
    let mut three = Ledger::open(folder.path()).unwrap();
    let other = String::from_utf8(before).unwrap().replace("\"count\":1}", "\"count\":2}");
    fs::write(folder.path().join(FILE), other).unwrap();
    assert!(matches!(three.append(&secret("ada"), 102, add("b")), Err(LedgerError::Moved(_))));
}

#[test]
fn of_many_writers_and_readers_at_once_nobody_loses_an_entry_or_sees_half_of_one() {
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path());
    let (writers, each) = (4, 12);
    thread::scope(|scope| {
        for writer in 0..writers {
            let folder = folder.path();
            scope.spawn(move || {
                for count in 0..each {
                    let add = add(&format!("{writer}-{count}-{}", "x".repeat(20_000)));
                    // Whoever comes too late reads again.
                    while let Err(error) = Ledger::open(folder).unwrap().append(&secret("ada"), 101, add.clone()) {
                        assert!(matches!(error, LedgerError::Moved(_)), "{error}");
                    }
                }
            });
        }
        scope.spawn(|| (0..40).for_each(|_| assert_eq!(Ledger::read(folder.path()).unwrap().findings(), [])));
    });
    let chain = Ledger::read(folder.path()).unwrap();
    assert_eq!((chain.findings().len(), chain.entries().len()), (0, 1 + writers * each));
    assert_eq!(chain.state().count(), (writers * each) as u64);
}

#[test]
fn a_cut_line_stops_writers_until_it_is_set_aside_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begin(folder.path());
    let first = text(folder.path());
    ledger.append(&secret("ada"), 101, add("a")).unwrap();
    let whole = text(folder.path());
    assert_eq!(Ledger::heal(folder.path()).unwrap(), Healed::Whole);
    for round in 1..=2 {
        fs::write(folder.path().join(FILE), &whole[..whole.len() - 9]).unwrap();
        let message = Ledger::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("its last line is cut") && message.contains("theriac ledger heal"), "{message}");
        assert!(matches!(ledger.append(&secret("ada"), 102, add("b")), Err(LedgerError::Moved(_))));
        let aside = folder.path().join(format!("{FILE}.cut-{round}"));
        assert_eq!(Ledger::heal(folder.path()).unwrap(), Healed::SetAside(aside.clone()));
        assert_eq!([text(folder.path()), fs::read(aside).unwrap()].concat(), whole[..whole.len() - 9]);
    }
    assert_eq!(text(folder.path()), first);
    Ledger::open(folder.path()).unwrap().append(&secret("ada"), 102, add("b")).unwrap();
    // An entry that lacks its end only is completed.
    fs::write(folder.path().join(FILE), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(Ledger::heal(folder.path()).unwrap(), Healed::Ended);
    assert_eq!(text(folder.path()), whole);
}

#[test]
fn a_ledger_whose_first_line_was_cut_can_be_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path());
    let whole = text(folder.path());
    fs::write(folder.path().join(FILE), &whole[..40]).unwrap();
    assert!(matches!(Ledger::heal(folder.path()).unwrap(), Healed::SetAside(_)));
    assert!(text(folder.path()).is_empty());
    begin(folder.path());
    assert_eq!(text(folder.path()), whole);
    let init = draft(Action::Init { data: "toy".to_owned(), form: Form::Items });
    let again = Ledger::init(folder.path(), &secret("ada"), Role::Engineer, 100, init);
    assert!(matches!(again, Err(LedgerError::There(_))));
    assert_eq!(text(folder.path()), whole);
}

#[test]
fn nobody_vouches_for_a_ledger_that_is_not_sound() {
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path()).append(&secret("ada"), 101, add("a")).unwrap();
    let changed = String::from_utf8(text(folder.path())).unwrap().replacen("\"toy\"", "\"joy\"", 1);
    fs::write(folder.path().join(FILE), changed).unwrap();
    let message = Ledger::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("it is not sound (ledger.jsonl, line 1: the signature is not one of key"), "{message}");
    assert_eq!(Ledger::read(folder.path()).unwrap().entries().len(), 2);
}
