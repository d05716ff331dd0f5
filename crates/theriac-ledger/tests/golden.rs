//! A small ledger, its anchor and two proofs, beside the same ones made by `scripts/verify/ledger.py`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::collections::BTreeMap;
use std::path::Path;

use theriac_core::{Role, Stage};
use theriac_ledger::{Action, Anchor, Chain, Draft, Form, Proof, Scan, SecretKey, differences, of_file, verify};

fn golden(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// The files, and what is done to them.
struct Desk {
    files: BTreeMap<&'static str, String>,
    chain: Option<Chain>,
    text: String,
    time: u64,
}

impl Desk {
    fn scan(&self) -> Scan {
        Scan::new(self.files.iter().map(|(key, content)| ((*key).to_owned(), of_file(content.as_bytes()))))
    }

    fn append(&mut self, secret: &SecretKey, action: Action, note: &str) {
        let state = self.chain.as_ref().map(|chain| chain.state().clone()).unwrap_or_default();
        let draft =
            Draft { stage: Stage::Store, action, note: note.to_owned(), changes: differences(&state, &self.scan()) };
        match &mut self.chain {
            Some(chain) => self.text += &chain.extend(secret, self.time, draft).unwrap(),
            none => {
                let (chain, line) = Chain::begin(secret, Role::Engineer, self.time, draft).unwrap();
                (*none, self.text) = (Some(chain), line);
            }
        }
        self.time += 60;
    }
}

#[test]
fn the_ledger_is_byte_by_byte_what_an_independent_program_writes() {
    let [ada, bob] = [("ada", 1), ("bob", 2)].map(|(name, byte)| SecretKey::new(name, [byte; 32]));
    let names = ["cat/0.png", "cat/1.png", "cat/2.png", "cat/3.png", "cat/4.png", "cat/5.png"];
    let dogs = ["dog/0.png", "dog/1.png", "dog/2.png", "dog/3.png", "dog/4.png", "dog/5.png"];
    let content = |key: &&'static str| (*key, key.replace('/', " ").replace(".png", ""));
    let files = names.iter().chain(&dogs).map(content).collect();
    let mut desk = Desk { files, chain: None, text: String::new(), time: 1_795_795_265 };
    let change = || Action::Change { whole: true };

    desk.append(&ada, Action::Init { data: "pets".to_owned(), form: Form::Folder }, "");
    let public = bob.public();
    desk.append(&ada, Action::Admit { actor: "bob".to_owned(), role: Role::Annotator, public }, "");
    let moved = desk.files.remove("cat/1.png").unwrap();
    desk.files.insert("dog/9.png", moved);
    desk.append(&bob, change(), "this is \"no\" cat\nü \u{7}");
    let data = desk.chain.as_ref().unwrap().state().root();
    let train = Action::Train { data, recipe: of_file(b"recipe"), model: of_file(b"model") };
    desk.append(&ada, train, "");
    desk.files.insert("cat/2.png", "cat 2, again".to_owned());
    desk.files.remove("cat/3.png");
    desk.append(&bob, change(), "");
    desk.append(&ada, Action::Retire { public }, "left");
    desk.append(&ada, Action::Attest, "");
    let moved = desk.files.remove("dog/9.png").unwrap();
    desk.files.insert("cat/1.png", moved);
    desk.append(&ada, change(), "it is one");

    let chain = desk.chain.as_ref().unwrap();
    assert_eq!(desk.text, golden("ledger.jsonl"));
    assert_eq!(chain.anchor().unwrap().to_string(), golden("anchor.txt"));
    assert_eq!(chain.prove("cat/1.png").unwrap().text(), golden("present.json"));
    assert_eq!(chain.prove("cat/7.png").unwrap().text(), golden("absent.json"));
    let anchor: Anchor = golden("anchor.txt").parse().unwrap();
    let read = Chain::read(golden("ledger.jsonl").as_bytes());
    assert_eq!(verify(&read, &desk.scan(), std::slice::from_ref(&anchor)).findings, []);
    for (name, versions) in [("present.json", 3), ("absent.json", 0)] {
        let proof = Proof::read(golden(name).as_bytes()).unwrap();
        assert_eq!(proof.check(&anchor).unwrap().versions.len(), versions);
    }
}
