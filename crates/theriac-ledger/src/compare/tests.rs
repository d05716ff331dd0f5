use super::*;
use crate::toy::{Toy, small};
use crate::{Draft, Form};

#[test]
fn each_kind_of_change_is_named_with_its_sample_and_since_when() {
    let mut toy = small();
    toy.set("a", "9").set("d", "2").remove("c").set("e", "1").set("b", "1");
    let entry_6 = "[after entry 6 (1970-01-12T13:47:40Z)]";
    let found = toy.found();
    assert_eq!(found.len(), 5, "{found:#?}");
    for (found, says) in found.iter().zip([
        "a: content changed: entry 5 says ",
        "b: an older version is back: that of entry 0, which entry 3 had replaced ",
        "c: missing: entry 0 says that it is there; `e` has its content ",
        "d: content changed: entry 5 says ",
        "e: unexplained: no entry knows it ",
    ]) {
        assert!(found.starts_with(says) && found.ends_with(entry_6), "{says}: {found}");
    }
    // Once all is as it was, nothing is found.
    toy.files = small().files;
    assert_eq!(toy.found(), [""; 0]);
}

#[test]
fn a_removed_sample_that_is_back_is_an_older_version_and_one_that_cannot_be_read_is_told() {
    let mut toy = Toy::new(&[("a", "1"), ("b", "1")]);
    toy.remove("b").record("ada").set("b", "1");
    let found = toy.found();
    assert!(
        found[0].starts_with("b: an older version is back: that of entry 0, which entry 1 had replaced"),
        "{found:?}"
    );
    let mut scan = toy.scan();
    scan.unreadable = vec![("a".to_owned(), "permission denied".to_owned())];
    scan.items.clear();
    assert_eq!(differences(toy.chain.state(), &scan), []);
    let report = verify(&toy.chain, &scan, &[]);
    assert!(report.findings[0].to_string().starts_with("a: cannot be read: permission denied"), "{report:?}");
    assert_eq!((report.entries, report.samples, report.doubted), (2, 1, None));
}

#[test]
fn a_change_of_one_sample_alone_does_not_vouch_for_the_others() {
    let mut toy = small();
    let changes = vec![Change { key: "a".to_owned(), before: toy.chain.state().content("a"), after: None }];
    toy.remove("a").append("ada", Draft { changes, ..crate::toy::draft(Action::Change { whole: false }) });
    toy.set("c", "7").set("a", "3");
    let found = toy.found();
    assert!(found[0].starts_with("a: an older version is back: that of entry 5, which entry 7 had replaced"));
    assert!(found[0].contains("[after entry 7 ") && found[1].contains("[after entry 6 "), "{found:?}");
}

#[test]
fn other_data_are_told_as_such_and_rows_stand_in_their_order() {
    let mut toy = Toy::new(&[("9", "1"), ("10", "1")]);
    toy.set("9", "2").set("10", "2");
    let found = toy.found();
    assert!(found[0].starts_with("9: ") && found[1].starts_with("10: "), "{found:?}");
    toy.files.clear();
    toy.set("x", "1");
    let found = toy.found();
    assert!(found[0].starts_with("other data: not one sample is here that this ledger knows; it is about `toy`"));
    assert_eq!(found.len(), 4);
}

#[test]
fn where_not_one_entry_can_be_read_that_is_the_only_finding() {
    let toy = small();
    let found = |text: &[u8]| {
        let report = verify(&Chain::read(text), &toy.scan(), &[]);
        assert_eq!((report.entries, report.samples, report.good, report.doubted), (0, 0, None, Some(1)));
        report.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let garbage: String = toy.lines().iter().map(|line| format!("?{line}")).collect();
    for text in [garbage.clone(), garbage + "and no end"] {
        let found = found(text.as_bytes());
        assert!(
            found.len() == 1 && found[0].starts_with("ledger.jsonl, line 1: no entry can be read, nor in "),
            "{found:?}"
        );
        assert!(found[0].contains("bring back a copy of the ledger, or move this one away"), "{found:?}");
    }
    let [empty, one] = [&b""[..], b"?\n"].map(found);
    assert!(empty.len() == 1 && empty[0].contains(": no entry can be read (the file is empty), so"), "{empty:?}");
    assert!(one.len() == 1 && one[0].contains(": no entry can be read (") && one[0].contains("), so"), "{one:?}");
    // A first line that is cut can be healed.
    let cut = found(&toy.text.as_bytes()[..20]);
    assert!(cut.len() == 1 && cut[0].contains("the last 20 bytes are no whole line; `theriac ledger heal`"), "{cut:?}");
}

#[test]
fn differences_lead_from_the_ledger_to_the_data() {
    let mut toy = small();
    toy.set("a", "9").remove("c").set("e", "1").record("bob");
    assert_eq!(differences(toy.chain.state(), &toy.scan()), []);
    assert_eq!(toy.found(), [""; 0]);
    let Action::Init { form, .. } = toy.chain.entries()[0].header.action else { panic!("it begins") };
    assert_eq!(form, Form::Folder);
}

#[test]
fn where_an_anchor_fails_only_what_another_one_holds_is_vouched_for() {
    let mut toy = small();
    let [early, late] =
        [Chain::read(toy.lines()[..5].concat().as_bytes()), toy.chain.clone()].map(|c| c.anchor().unwrap());
    toy.text = toy.lines()[..6].concat();
    toy.chain = Chain::read(toy.text.as_bytes());
    toy.set("c", "7");
    let report = |anchors: &[Anchor]| {
        let report = verify(&toy.chain, &toy.scan(), anchors);
        let since = report.findings.last().map(|finding| finding.since.to_string()).unwrap();
        (report.findings.len(), report.doubted, report.good.map(|good| good.entry), since)
    };
    // `b` is back, `c` changed.
    let when = |entry: u64, time: &str| format!("after entry {entry} (1970-01-12T{time}Z)");
    let fifth = when(5, "13:47:30");
    assert_eq!(report(std::slice::from_ref(&early)), (2, None, Some(5), fifth));
    assert_eq!(report(&[early, late.clone()]), (3, Some(6), None, when(0, "13:46:40")));
    assert_eq!(report(&[late]), (3, Some(1), None, "since when is not known".to_owned()));
}
