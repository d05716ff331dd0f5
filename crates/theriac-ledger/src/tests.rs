//! What the whole promises: every change is found and located, and nothing is found where nothing was changed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use theriac_core::Role;

use crate::entry::{Entry, Fault, read_line};
use crate::toy::{Numbers, Toy, secret};
use crate::{Action, Anchor, Chain, Finding, What, differences, of_file, verify};

const AUTHORS: [&str; 5] = ["ada", "bob", "cem", "dora", "eve"];

/// 10,000 samples that came in 42 batches, 300 changes by five authors, removals and returns, attests.
fn large() -> Toy {
    let mut numbers = Numbers(1);
    let mut toy = Toy::of((0..1_600).map(|at| sample(&mut numbers, at)).collect());
    for author in &AUTHORS[1..] {
        toy.admit(author, Role::Annotator);
    }
    for round in 0..300 {
        // What is removed in one round may be back in the next, as it was or not.
        if round < 42 {
            toy.files.extend((0..200).map(|at| sample(&mut numbers, 1_600 + round * 200 + at)));
        }
        for _ in 0..20 {
            let at = numbers.below(toy.files.len());
            let key = toy.files.keys().nth(at).unwrap().clone();
            match numbers.below(8) {
                0 => drop(toy.files.remove(&key)),
                _ => drop(toy.files.insert(key, numbers.next().to_le_bytes().to_vec())),
            }
        }
        toy.record(AUTHORS[round % AUTHORS.len()]);
        if round % 50 == 49 {
            toy.act("ada", Action::Attest);
        }
    }
    let missing = 10_000 - toy.files.len();
    toy.files.extend((0..missing).map(|at| sample(&mut numbers, 10_000 + at)));
    toy.record("ada");
    toy
}

fn sample(numbers: &mut Numbers, at: usize) -> (String, Vec<u8>) {
    let words: Vec<u8> = (0..8).flat_map(|_| numbers.next().to_le_bytes()).collect();
    (format!("{}/{at:05}.png", at % 10), words)
}

#[test]
fn of_10_000_samples_every_changed_byte_is_found_and_its_sample_named() {
    let toy = large();
    let mut scan = toy.scan();
    let files: Vec<(&String, &Vec<u8>)> = toy.files.iter().collect();
    assert_eq!(verify(&toy.chain, &scan, &[]).findings, []);
    assert_eq!((scan.items.len(), toy.chain.state().count()), (10_000, 10_000));
    let mut numbers = Numbers(2);
    for _ in 0..5_000 {
        let at = numbers.below(files.len());
        let (key, bytes) = files[at];
        let mut changed = bytes.clone();
        let byte = numbers.below(bytes.len());
        changed[byte] ^= 1 + numbers.below(255) as u8;
        scan.items[at].1 = of_file(&changed);
        let findings = verify(&toy.chain, &scan, &[]).findings;
        let [Finding { what: What::Changed { found, .. }, sample, since, .. }] = &findings[..] else {
            panic!("byte {byte} of {key}: {findings:?}")
        };
        assert_eq!((sample.as_ref(), *found), (Some(key), of_file(&changed)));
        assert_eq!(since.after, toy.chain.good());
        scan.items[at].1 = of_file(bytes);
    }
}

/// The lines that a person would look at for a finding.
fn lines_found(text: &[u8]) -> Vec<u64> {
    Chain::read(text).findings().iter().filter_map(|finding| finding.line).collect()
}

#[test]
fn every_changed_byte_of_the_ledger_is_found_and_its_line_named() {
    let toy = large();
    let text = toy.text.as_bytes();
    let begins: Vec<usize> =
        toy.lines().iter().scan(0, |at, line| Some(std::mem::replace(at, *at + line.len()))).collect();
    let line_of = |at: usize| begins.partition_point(|begin| *begin <= at) - 1;
    let end_of = |line: usize| begins.get(line).copied().unwrap_or(text.len());
    let mut numbers = Numbers(3);
    let mut signatures = 0;
    for round in 0..6_000 {
        // Half of them anywhere in the text, half anywhere in any line, so that short lines have their share, and some in signatures.
        let line = numbers.below(begins.len());
        let at = match round % 8 {
            0..4 => numbers.below(text.len()),
            4..7 => begins[line] + numbers.below(end_of(line + 1) - begins[line]),
            _ => end_of(line + 1) - 4 - numbers.below(128),
        };
        signatures += usize::from(round % 8 == 7);
        let line = line_of(at);
        // What a line says by itself is all that is looked at here; below, that the whole says no less.
        let mut part = text[begins[line]..end_of(line + 2)].to_vec();
        let byte = &mut part[at - begins[line]];
        *byte ^= 1 + numbers.below(255) as u8;
        let first = part.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let faults = read_line(first).map(|line| line.faults);
        let is_end = at + 1 == end_of(line + 1);
        assert!(
            faults.as_ref().map_or(true, |faults| !faults.is_empty()) || (is_end && part.len() == first.len()),
            "{at}"
        );
        if round % 8 == 7 {
            assert!(!matches!(faults, Ok(faults) if faults == [Fault::Changes]), "{at}");
        }
        if round % 50 == 0 || is_end {
            let changed = [&text[..begins[line]], &part, &text[end_of(line + 2)..]].concat();
            let found = lines_found(&changed);
            assert_eq!(found.iter().min(), Some(&(line as u64 + 1)), "byte {at} of line {}: {found:?}", line + 1);
        }
    }
    assert_eq!(signatures, 750);
}

#[test]
fn of_a_small_ledger_every_byte_is_changed_and_the_whole_names_the_line_and_no_other() {
    let toy = crate::toy::small();
    let text = toy.text.as_bytes();
    let (mut line, mut checked) = (1, 0);
    for at in 0..text.len() {
        for mask in [1, 32, 128] {
            let mut changed = text.to_vec();
            changed[at] ^= mask;
            let found = lines_found(&changed);
            assert!(found.iter().all(|found| *found == line || text[at] == b'\n'), "byte {at}, line {line}: {found:?}");
            assert_eq!(found.first(), Some(&line), "byte {at}");
            checked += 1;
        }
        line += u64::from(text[at] == b'\n');
    }
    assert!(checked > 10_000, "{checked}");
}

/// What a random history is made of.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Remove(u8),
    Record(usize),
    Admit(usize),
    Retire(usize),
    Other(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..12, 0_u8..4).prop_map(|(key, content)| Step::Set(key, content)),
        2 => (0_u8..12).prop_map(Step::Remove),
        4 => (0_usize..5).prop_map(Step::Record),
        2 => (1_usize..5).prop_map(Step::Admit),
        1 => (1_usize..5).prop_map(Step::Retire),
        1 => (0_u8..5).prop_map(Step::Other),
    ]
}

/// A history in which everybody does what they may.
fn play(steps: &[Step]) -> (Toy, Vec<Anchor>) {
    let mut toy = Toy::new(&[("k0", "0")]);
    let mut anchors = vec![toy.chain.anchor().unwrap()];
    for step in steps {
        let may = |name: usize| toy.chain.actors().active().any(|actor| actor.name == AUTHORS[name]);
        let known = |name: usize| toy.chain.actors().find(&secret(AUTHORS[name]).public()).is_some();
        match *step {
            Step::Set(key, content) => drop(toy.files.insert(format!("k{key}"), vec![content])),
            Step::Remove(key) => drop(toy.files.remove(&format!("k{key}"))),
            Step::Record(author) if may(author) => drop(toy.record(AUTHORS[author])),
            Step::Admit(author) if !known(author) => drop(toy.admit(AUTHORS[author], Role::Service)),
            Step::Retire(author) if may(author) => {
                toy.act("ada", Action::Retire { public: secret(AUTHORS[author]).public() });
            }
            Step::Other(which) => {
                let digest = of_file(b"model");
                let text = || "a \"note\"\n\u{1f408} \u{7}".to_owned();
                toy.act(
                    "ada",
                    match which {
                        0 => Action::Attest,
                        1 => Action::Access { purpose: text() },
                        2 => Action::Deny { tried: text() },
                        3 => Action::Publish { model: digest },
                        _ => Action::Train { data: toy.chain.state().root(), recipe: digest, model: digest },
                    },
                );
            }
            Step::Record(_) | Step::Admit(_) | Step::Retire(_) => {}
        }
        anchors.push(toy.chain.anchor().unwrap());
    }
    toy.record("ada");
    (toy, anchors)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_found_in_an_honest_history_and_all_of_it_is_proved(steps in prop::collection::vec(step(), 0..24)) {
        let (toy, anchors) = play(&steps);
        let chain = Chain::read(toy.text.as_bytes());
        prop_assert_eq!(&verify(&chain, &toy.scan(), &anchors).findings, &[]);
        prop_assert_eq!(chain.digests(), toy.chain.digests());
        // The state is what its last versions say, whatever the way to it.
        let there: BTreeMap<_, _> = toy.files.iter().map(|(key, bytes)| (key.clone(), of_file(bytes))).collect();
        let stated = chain.state().samples().iter().filter_map(|(key, version)| Some((key.clone(), version.content?)));
        prop_assert_eq!(stated.collect::<BTreeMap<_, _>>(), there);
        let anchor = chain.anchor().unwrap();
        for at in 0..13 {
            let key = format!("k{at}");
            let proved = chain.prove(&key).unwrap().check(&anchor).unwrap();
            prop_assert_eq!(proved.versions.last(), chain.state().samples().get(&key));
        }
    }

    #[test]
    fn what_is_done_behind_the_ledger_is_found_sample_by_sample(
        steps in prop::collection::vec(step(), 0..16), behind in prop::collection::vec((0_u8..14, 0_u8..6), 1..6),
    ) {
        let (toy, _) = play(&steps);
        let mut after = toy.clone();
        for (key, content) in behind {
            let key = format!("k{key}");
            match content {
                5 => drop(after.files.remove(&key)),
                content => drop(after.files.insert(key, vec![content])),
            }
        }
        let keys = toy.files.keys().chain(after.files.keys());
        let mut differ: Vec<&String> = keys.filter(|key| toy.files.get(*key) != after.files.get(*key)).collect();
        differ.sort();
        differ.dedup();
        let findings = verify(&toy.chain, &after.scan(), &[]).findings;
        let named: Vec<&String> = findings.iter().filter_map(|finding| finding.sample.as_ref()).collect();
        prop_assert_eq!(&named, &differ);
        // And what would be recorded leads to what is there.
        let changes = differences(toy.chain.state(), &after.scan());
        prop_assert_eq!(changes.iter().map(|change| &change.key).collect::<Vec<_>>(), differ);
    }

    #[test]
    fn whoever_has_all_keys_cannot_go_behind_an_anchor(
        steps in prop::collection::vec(step(), 1..16), others in prop::collection::vec(step(), 0..16), cut in 0_usize..20,
    ) {
        let (toy, anchors) = play(&steps);
        let head = toy.chain.anchor().unwrap();
        let lines = toy.lines();
        // Back to any entry, and another way on from there, all of it signed by those who may.
        let kept = 1 + cut % lines.len();
        let mut other = Toy { text: lines[..kept].concat(), ..toy.clone() };
        other.chain = Chain::read(other.text.as_bytes());
        if kept < lines.len() {
            let truncated = other.chain.compare(&head).map(|finding| finding.what);
            prop_assert_eq!(truncated, Some(What::Truncated { anchored: head.entry, entries: kept as u64 }));
        }
        for step in &others {
            if let Step::Set(key, content) = step {
                other.files.insert(format!("k{key}"), vec![*content]);
            }
            other.record("ada");
        }
        other.act("ada", Action::Attest).record("ada");
        prop_assert_eq!(&other.found(), &[""; 0]);
        let is_a_continuation = other.text.starts_with(&toy.text);
        prop_assert_eq!(other.chain.compare(&head).is_none(), is_a_continuation);
        for anchor in anchors.iter().filter(|anchor| anchor.entry < kept as u64) {
            prop_assert_eq!(other.chain.compare(anchor), None);
        }
    }

    #[test]
    fn any_bytes_can_be_read_and_the_rest_of_the_ledger_with_them(
        noise in prop::collection::vec(any::<u8>(), 0..80), at in 0_usize..4_000, gone in 0_usize..2_000,
    ) {
        let text = crate::toy::small().text.into_bytes();
        let at = at % text.len();
        let mut changed = text.clone();
        changed.splice(at..(at + gone).min(text.len()), noise);
        let chain = Chain::read(&changed);
        prop_assert_eq!(chain.findings().is_empty(), changed == text);
    }
}

#[test]
fn entries_that_were_signed_anew_over_a_lie_do_not_pass() {
    let toy = crate::toy::small();
    // Every field of a header, changed by somebody with the key of its author: the chain or the tree tells.
    for (at, entry) in toy.chain.entries().iter().enumerate().skip(2) {
        let lies: [fn(&mut crate::Header); 6] = [
            |header| header.number += 1,
            |header| header.time = 0,
            |header| header.root = of_file(b""),
            |header| header.keys += 1,
            |header| header.count += 1,
            |header| header.before = Some(of_file(b"")),
        ];
        for (which, lie) in lies.iter().enumerate() {
            let mut header = entry.header.clone();
            lie(&mut header);
            let mut lines = toy.lines();
            lines[at] = Entry::sign(header, entry.changes.clone(), &secret(&entry.header.actor)).line();
            let found = lines_found(lines.concat().as_bytes());
            assert_eq!(found.first(), Some(&(at as u64 + 1)), "lie {which} in line {}", at + 1);
        }
    }
}
