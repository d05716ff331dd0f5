//! Small data with a history, for tests.

use std::collections::BTreeMap;

use theriac_core::{Role, Stage};

use crate::{Action, Chain, Draft, Form, Scan, SecretKey, differences, of_file};

/// A generator of numbers that look random enough.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Files, the ledger of what happened to them, and its text.
#[derive(Clone)]
pub(crate) struct Toy {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) chain: Chain,
    pub(crate) text: String,
    pub(crate) time: u64,
}

pub(crate) fn secret(name: &str) -> SecretKey {
    let mut random = [0; 32];
    random[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::new(name, random)
}

pub(crate) fn draft(action: Action) -> Draft {
    Draft { stage: Stage::Store, action, note: String::new(), changes: Vec::new() }
}

pub(crate) const CHANGE: Action = Action::Change { whole: true };

impl Toy {
    /// A ledger of ada, who is an engineer.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(key, content)| ((*key).to_owned(), content.as_bytes().to_vec())).collect();
        Self::of(files)
    }

    pub(crate) fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let init = Action::Init { data: "toy".to_owned(), form: Form::Folder };
        let mut toy = Self { files, chain: Chain::default(), text: String::new(), time: 1_000_000 };
        let changes = differences(&Default::default(), &toy.scan());
        (toy.chain, toy.text) =
            Chain::begin(&secret("ada"), Role::Engineer, toy.time, Draft { changes, ..draft(init) }).unwrap();
        toy
    }

    pub(crate) fn scan(&self) -> Scan {
        Scan::new(self.files.iter().map(|(key, bytes)| (key.clone(), of_file(bytes))))
    }

    pub(crate) fn set(&mut self, key: &str, content: &str) -> &mut Self {
        self.files.insert(key.to_owned(), content.as_bytes().to_vec());
        self
    }

    pub(crate) fn remove(&mut self, key: &str) -> &mut Self {
        self.files.remove(key).unwrap();
        self
    }

    /// Records what changed, ten seconds later.
    pub(crate) fn record(&mut self, name: &str) -> &mut Self {
        let changes = differences(self.chain.state(), &self.scan());
        self.append(name, Draft { changes, ..draft(CHANGE) })
    }

    pub(crate) fn act(&mut self, name: &str, action: Action) -> &mut Self {
        self.append(name, draft(action))
    }

    pub(crate) fn append(&mut self, name: &str, draft: Draft) -> &mut Self {
        self.time += 10;
        self.text += &self.chain.extend(&secret(name), self.time, draft).unwrap();
        self
    }

    pub(crate) fn admit(&mut self, name: &str, role: Role) -> &mut Self {
        let (actor, public) = (name.to_owned(), secret(name).public());
        self.act("ada", Action::Admit { actor, role, public })
    }

    /// Everything that is found when the text is read anew, as a person reads it.
    pub(crate) fn found(&self) -> Vec<String> {
        let chain = Chain::read(self.text.as_bytes());
        crate::verify(&chain, &self.scan(), &[]).findings.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.text.split_inclusive('\n').map(str::to_owned).collect()
    }
}

/// Three samples, four authors, seven entries.
pub(crate) fn small() -> Toy {
    let mut toy = Toy::new(&[("a", "1"), ("b", "1"), ("c", "1")]);
    toy.admit("bob", Role::Annotator).set("a", "2").record("bob");
    toy.remove("b").record("ada").act("ada", Action::Attest);
    toy.set("d", "1").set("a", "3").record("bob").set("b", "2").record("ada");
    toy
}
