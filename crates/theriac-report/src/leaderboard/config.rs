//! The config of a row: the smallest study that gives the same cells again, bit by bit.

use serde::Serialize;
use theriac_core::Values;
use theriac_core::record::{MethodRecord, filter_key};

use crate::group::{Group, NONE, matches};
use crate::setting::Setting;

#[derive(Serialize)]
struct Study<'a> {
    name: &'a str,
    experiment: [Experiment<'a>; 1],
}

#[derive(Serialize)]
struct Experiment<'a> {
    name: &'a str,
    seeds: Vec<u64>,
    controls: bool,
    data: [Method<'a>; 1],
    model: [Method<'a>; 1],
    train: [Method<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    attack: Option<[Method<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    defense: Option<[Method<'a>; 1]>,
}

#[derive(Serialize)]
struct Method<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(flatten)]
    params: Values,
}

impl<'a> Method<'a> {
    fn new(method: &'a MethodRecord) -> Self {
        // TOML has no `null`; leaving the parameter out says the same.
        let given = method.params.iter().filter(|(_, value)| !value.is_null());
        Self { name: Some(&method.name), params: given.map(|(key, value)| (key.clone(), value.clone())).collect() }
    }

    fn nameless(method: &'a MethodRecord) -> Self {
        Self { name: None, ..Self::new(method) }
    }
}

/// The config of `group` as TOML. A control comes with the filter that it matches, for without that it has no budget.
pub fn of<'a>(group: &Group<'a>, setting: &Setting<'a>, name: &str) -> String {
    let first = group.first();
    let defenses = setting.defenses();
    let matched = matches(group.defense());
    let filter = matched.and_then(|key| defenses.iter().copied().find(|filter| filter_key(filter, &defenses) == key));
    let method = |method: &'a MethodRecord| (method.name != NONE).then(|| [Method::new(method)]);
    let study = Study {
        name,
        experiment: [Experiment {
            name: setting.experiment,
            seeds: group.cells().map(|cell| cell.seed).collect(),
            controls: matched.is_some(),
            data: [Method::new(&first.dataset)],
            model: [Method::new(&first.model)],
            train: [Method::nameless(&first.train)],
            attack: method(group.attack()),
            defense: method(filter.unwrap_or(group.defense())),
        }],
    };
    toml::to_string(&study).expect("records hold only what TOML can write")
}
