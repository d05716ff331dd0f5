//! `[[experiment.compare]]`: which methods are to be compared by tests.

use theriac_core::Kind;
use theriac_core::record::{METRICS, MethodRecord};

use super::Compare;
use super::check::{Checker, join};
use super::fault::Rule;
use super::method::Table;
use super::node::Node;

/// What can be compared, and how the list of its names is called.
const LISTS: [(&str, Kind); 3] = [("attacks", Kind::Attack), ("defenses", Kind::Defense), ("models", Kind::Model)];
const KEYS: [&str; 4] = ["attacks", "defenses", "models", "metrics"];
/// Those of them that the cells have are compared if no metric is named.
const DEFAULTS: [&str; 3] = ["clean_accuracy", "asr", "targeted_success"];

impl Checker<'_> {
    /// One comparison; `known` answers with the methods of the experiment.
    pub(super) fn compare<'m>(
        &mut self,
        table: &Table,
        known: impl Fn(Kind) -> Vec<&'m MethodRecord>,
    ) -> Option<Compare> {
        self.known_keys(table, &KEYS);
        let given: Vec<_> = LISTS.iter().filter(|(key, _)| table.get(key).is_some()).collect();
        let &[(key, of)] = given.as_slice() else {
            let rule =
                Rule::expected("one list of names: `attacks`, `defenses` or `models`", format!("{}", given.len()));
            self.fault(&table.span, &*table.path, rule);
            return None;
        };
        let mut names: Vec<&str> = known(*of).into_iter().map(|method| method.name.as_str()).collect();
        if *of != Kind::Model {
            names.push("none");
        }
        let node = table.get(key)?;
        let path = join(&table.path, key);
        let found = self.words(node, &path, |word| {
            (!names.contains(&word))
                .then(|| Rule::unknown_name(&format!("{of} in this experiment"), word, names.iter().copied()))
        });
        if found.len() < 2 {
            self.fault(&node.span, &*path, Rule::expected("at least two names", node.found()));
        }
        let metrics = match table.get("metrics") {
            Some(node) => self.words(node, &join(&table.path, "metrics"), |word| {
                (!METRICS.contains(&word)).then(|| Rule::unknown_name("metric", word, METRICS))
            }),
            None => DEFAULTS.map(str::to_owned).to_vec(),
        };
        Some(Compare { of: *of, names: found, metrics })
    }

    /// One word or a list of them, each once.
    fn words(&mut self, node: &Node, path: &str, refuse: impl Fn(&str) -> Option<Rule>) -> Vec<String> {
        if node.items().is_empty() {
            self.fault(&node.span, path, Rule::EmptyList);
        }
        let mut words: Vec<String> = Vec::new();
        for item in node.items() {
            match item.text() {
                Some(word) => {
                    let twice = words.iter().any(|other| other == word);
                    let rule = twice.then(|| Rule::Repeated(format!("\"{word}\"")));
                    if let Some(rule) = rule.or_else(|| refuse(word)) {
                        self.fault(&item.span, path, rule);
                    }
                    words.push(word.to_owned());
                }
                None => self.fault(&item.span, path, Rule::expected("a name", item.found())),
            }
        }
        words
    }
}
