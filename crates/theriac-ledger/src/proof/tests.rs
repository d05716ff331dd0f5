use super::*;
use crate::toy::{Toy, small};
use theriac_core::Role;

#[test]
fn a_proof_tells_the_whole_history_and_holds_against_anchor_and_ledger() {
    let toy = small();
    let anchor = toy.chain.anchor().unwrap();
    for key in ["a", "b", "c", "d", "never"] {
        let proof = Proof::read(toy.chain.prove(key).unwrap().text().as_bytes()).unwrap();
        let proved = proof.check(&anchor).unwrap();
        assert_eq!(proof.check_in(&toy.chain).unwrap(), proved);
        assert_eq!((proved.sample.as_str(), &proved.versions), (key, &toy.chain.history(key)));
    }
    let versions = toy.chain.prove("b").unwrap().check(&anchor).unwrap().versions;
    let told: Vec<_> = versions.iter().map(|v| (v.entry, v.actor.as_str(), v.content.is_some())).collect();
    assert_eq!(told, [(0, "ada", true), (3, "ada", false), (6, "ada", true)]);
}

#[test]
fn no_byte_of_a_proof_can_be_changed() {
    let toy = small();
    let anchor = toy.chain.anchor().unwrap();
    for key in ["b", "never"] {
        let text = toy.chain.prove(key).unwrap().text();
        let proved = Proof::read(text.as_bytes()).unwrap().check(&anchor).unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let says = Proof::read(&changed).and_then(|proof| proof.check(&anchor));
            // Spaces between the parts say nothing, and digits may be large letters. Of two samples that were never there a proof of one may
            // be one of the other.
            let is_true =
                |told: &Proved| toy.chain.history(&told.sample) == told.versions && told.header == proved.header;
            assert!(says.as_ref().map_or(true, is_true), "byte {at}: {says:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_proof_is_told() {
    let mut toy = small();
    let old = toy.chain.prove("a").unwrap();
    let proved_then = toy.chain.anchor().unwrap();
    toy.set("a", "4").record("bob");
    let anchor = toy.chain.anchor().unwrap();
    assert!(matches!(old.check(&anchor), Err(ProofError::Entry { entry: 6, against: "anchor", .. })));
    assert!(old.check(&proved_then).is_ok() && old.check_in(&toy.chain).is_ok());
    let foreign = Toy::new(&[("a", "1")]).chain;
    assert!(matches!(old.check_in(&foreign), Err(ProofError::Entry { against: "ledger", .. })));
    let mut proof = old.clone();
    proof.versions.pop();
    assert!(matches!(proof.check(&proved_then), Err(ProofError::Root { entry: 6, .. })));
    let mut proof = old.clone();
    proof.header.role = Role::Defender;
    assert!(matches!(proof.check(&proved_then), Err(ProofError::Signature { .. })));
    let mut proof = old;
    proof.format.push('1');
    assert!(matches!(Proof::read(proof.text().as_bytes()), Err(ProofError::NoProof(_))));
    assert!(matches!(Proof::read(b"{}"), Err(ProofError::NoProof(_))));
}
