//! Cells that belong together: over seeds into a [`Group`], over attacks and defenses into a [`Setting`].

use std::collections::{BTreeMap, BTreeSet};

use theriac_core::param::Value;
use theriac_core::record::{CellRecord, MethodRecord, Outcome, group_key};

use crate::spread::Spread;
use crate::words::{Success, value_words};

/// The names of defenses that are references for the others.
pub const CLEAN_MODEL: &str = "clean-model";
/// Removes as many samples as the filter that it matches, at random.
pub const RANDOM_FILTER: &str = "random-filter";
/// Removes as many samples as the filter that it matches, poison first.
pub const PERFECT_FILTER: &str = "perfect-filter";
/// No attack, or no defense.
pub const NONE: &str = "none";

/// Cells that differ by seed only.
pub struct Group<'a> {
    cells: Vec<&'a CellRecord>,
}

impl<'a> Group<'a> {
    /// The first cell; all others agree with it on everything but the seed and what was measured.
    pub fn first(&self) -> &'a CellRecord {
        self.cells[0]
    }

    /// The attack.
    pub fn attack(&self) -> &'a MethodRecord {
        &self.first().attack
    }

    /// The defense.
    pub fn defense(&self) -> &'a MethodRecord {
        &self.first().defense
    }

    /// All cells.
    pub fn cells(&self) -> &[&'a CellRecord] {
        &self.cells
    }

    /// The cells that were measured.
    pub fn ok(&self) -> impl Iterator<Item = &'a CellRecord> {
        self.cells.iter().copied().filter(|cell| cell.outcome == Outcome::Ok)
    }

    /// The cells that failed, with their reasons.
    pub fn failed(&self) -> impl Iterator<Item = (&'a CellRecord, &'a str)> {
        self.cells.iter().filter_map(|cell| match &cell.outcome {
            Outcome::Failed(reason) => Some((*cell, reason.as_str())),
            Outcome::Ok => None,
        })
    }

    /// The values of `metric` by seed.
    pub fn values(&self, metric: &str) -> BTreeMap<u64, f64> {
        self.ok().filter_map(|cell| Some((cell.seed, *cell.metrics.get(metric)?))).collect()
    }

    /// `metric` over seeds.
    pub fn spread(&self, metric: &str) -> Option<Spread> {
        Spread::of(&self.values(metric).into_values().collect::<Vec<_>>())
    }

    /// Which metric counts the attack's success.
    pub fn success(&self) -> Option<Success> {
        Success::ALL.into_iter().find(|success| self.ok().any(|cell| cell.metrics.contains_key(success.metric())))
    }

    /// The attack's success over seeds.
    pub fn success_spread(&self) -> Option<Spread> {
        self.spread(self.success()?.metric())
    }

    /// `after - before` over the seeds that both have.
    pub fn difference(&self, after: &str, other: &Group, before: &str) -> Option<Spread> {
        let (after, before) = (self.values(after), other.values(before));
        let pairs: Vec<f64> = after.iter().filter_map(|(seed, value)| Some(value - before.get(seed)?)).collect();
        Spread::of(&pairs)
    }
}

/// Groups `cells`, in the order in which each group first appears.
pub fn groups(cells: &[CellRecord]) -> Vec<Group<'_>> {
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for cell in cells {
        let index = *order.entry(group_key(cell)).or_insert(groups.len());
        match groups.get_mut(index) {
            Some(group) => group.cells.push(cell),
            None => groups.push(Group { cells: vec![cell] }),
        }
    }
    for group in &mut groups {
        group.cells.sort_by_key(|cell| cell.seed);
    }
    groups
}

/// One data set, one network and one training recipe within one experiment: what a table or a figure compares.
pub struct Setting<'a> {
    /// The experiment's name.
    pub experiment: &'a str,
    /// The data set, network and recipe, with those parameters that differ within the experiment.
    pub label: String,
    /// Short name for files and anchors.
    pub slug: String,
    /// The groups of cells, in order.
    pub groups: Vec<Group<'a>>,
}

impl<'a> Setting<'a> {
    /// The group of `attack` and `defense`.
    pub fn find(&self, attack: &MethodRecord, defense: &MethodRecord) -> Option<&Group<'a>> {
        self.groups.iter().find(|group| group.attack() == attack && group.defense() == defense)
    }

    /// The undefended victim of `attack`.
    pub fn undefended(&self, attack: &MethodRecord) -> Option<&Group<'a>> {
        self.groups.iter().find(|group| group.attack() == attack && group.defense().name == NONE)
    }

    /// The model that was neither attacked nor defended.
    pub fn clean(&self) -> Option<&Group<'a>> {
        self.groups.iter().find(|group| group.attack().name == NONE && group.defense().name == NONE)
    }

    /// The attacks in order of appearance, `none` included; the variants of one attack stand together, by rising parameters.
    pub fn attacks(&self) -> Vec<&'a MethodRecord> {
        let mut attacks = unique(self.groups.iter().map(Group::attack));
        let names = unique(attacks.iter().map(|attack| &attack.name));
        attacks.sort_by(|a, b| {
            let place = |method: &MethodRecord| names.iter().position(|name| **name == method.name);
            place(a).cmp(&place(b)).then_with(|| compare_params(a, b))
        });
        attacks
    }

    /// The attacks' names, `none` excluded.
    pub fn attack_names(&self) -> Vec<&'a str> {
        unique(self.attacks().into_iter().map(|attack| attack.name.as_str()))
            .into_iter()
            .filter(|n| *n != NONE)
            .collect()
    }

    /// The variants of the attack called `name`.
    pub fn variants(&self, name: &str) -> Vec<&'a MethodRecord> {
        self.attacks().into_iter().filter(|attack| attack.name == name).collect()
    }

    /// The variant of the attack called `name` that spends most.
    pub fn strongest(&self, name: &str) -> Option<&'a MethodRecord> {
        // Variants come by rising rate.
        self.variants(name).into_iter().rev().find(|attack| self.undefended(attack).is_some())
    }

    /// The defenses in order of appearance, `none` included; each matched reference follows its filter.
    pub fn defenses(&self) -> Vec<&'a MethodRecord> {
        let all = unique(self.groups.iter().map(Group::defense));
        let (matched, own): (Vec<_>, Vec<_>) = all.into_iter().partition(|defense| matches(defense).is_some());
        let mut ordered: Vec<&MethodRecord> = Vec::new();
        for (index, defense) in own.iter().enumerate() {
            ordered.push(defense);
            if !own[index + 1..].iter().any(|later| later.name == defense.name) {
                ordered.extend(matched.iter().filter(|method| matches(method) == Some(&defense.name)));
            }
        }
        let rest: Vec<_> = matched.into_iter().filter(|method| !ordered.contains(method)).collect();
        ordered.extend(rest);
        ordered
    }

    /// The reference called `name` (the random or the perfect filter) that has the removal budget of `filter`.
    pub fn matched(&self, filter: &Group, name: &str) -> Option<&Group<'a>> {
        let budget = |group: &Group| group.spread("flagged").map_or(0.0, |spread| spread.mean);
        self.groups
            .iter()
            .filter(|group| group.attack() == filter.attack() && group.defense().name == name)
            .filter(|group| matches(group.defense()) == Some(&filter.defense().name))
            // A filter with several variants has several matches: each variant's own is the one that removes as much.
            .min_by(|a, b| (budget(a) - budget(filter)).abs().total_cmp(&(budget(b) - budget(filter)).abs()))
    }

    /// The attack with those parameters that tell it from its neighbours, and always its rate.
    pub fn attack_label(&self, attack: &MethodRecord) -> String {
        label(attack, &self.attacks(), &["rate"])
    }

    /// The same without the name: `rate 0.05`.
    pub fn variant_label(&self, attack: &MethodRecord) -> String {
        let label = self.attack_label(attack);
        label.split_once(", ").map_or_else(|| label.clone(), |(_, params)| params.to_owned())
    }

    /// The defense with those parameters that tell it from its neighbours.
    pub fn defense_label(&self, defense: &MethodRecord) -> String {
        match matches(defense) {
            Some(filter) => format!("{} as {filter}", defense.name),
            None => label(defense, &self.defenses(), &[]),
        }
    }
}

/// The filter whose removal budget this reference takes over.
pub fn matches(defense: &MethodRecord) -> Option<&str> {
    defense.params.get("matches").and_then(Value::as_str)
}

/// Whether this defense is a reference for the others rather than a defense that could be deployed.
pub fn is_reference(defense: &MethodRecord) -> bool {
    [NONE, CLEAN_MODEL, RANDOM_FILTER, PERFECT_FILTER].contains(&defense.name.as_str())
}

/// Splits `cells` into settings, in order of appearance.
pub fn settings(cells: &[CellRecord]) -> Vec<Setting<'_>> {
    let mut settings: Vec<Setting> = Vec::new();
    for group in groups(cells) {
        let key = |group: &Group| {
            let cell = group.first();
            (cell.experiment.clone(), cell.dataset.clone(), cell.model.clone(), cell.train.clone())
        };
        match settings.iter_mut().find(|setting| key(&setting.groups[0]) == key(&group)) {
            Some(setting) => setting.groups.push(group),
            None => settings.push(Setting {
                experiment: &group.first().experiment,
                label: String::new(),
                slug: String::new(),
                groups: vec![group],
            }),
        }
    }
    name_settings(&mut settings);
    settings
}

fn name_settings(settings: &mut [Setting]) {
    let firsts: Vec<&CellRecord> = settings.iter().map(|setting| setting.groups[0].first()).collect();
    let names: Vec<(String, String)> = firsts
        .iter()
        .enumerate()
        .map(|(index, cell)| {
            let peers: Vec<&CellRecord> =
                firsts.iter().copied().filter(|peer| peer.experiment == cell.experiment).collect();
            let part = |of: fn(&CellRecord) -> &MethodRecord| {
                let peers: Vec<&MethodRecord> = peers.iter().copied().map(of).collect();
                label(of(cell), &peers, &[])
            };
            let text = [part(|cell| &cell.dataset), part(|cell| &cell.model), part(|cell| &cell.train)].join("; ");
            let earlier = firsts[..index].iter().filter(|peer| peer.experiment == cell.experiment).count();
            let number = if peers.len() > 1 { format!("-{}", earlier + 1) } else { String::new() };
            (text, format!("{}{number}", slug(&cell.experiment)))
        })
        .collect();
    // Two names may become one slug; files and anchors must not.
    let mut taken = BTreeSet::new();
    for (setting, (label, base)) in settings.iter_mut().zip(names) {
        let mut slug = base.clone();
        while !taken.insert(slug.clone()) {
            slug.push('_');
        }
        setting.label = label;
        setting.slug = slug;
    }
}

/// Letters, digits and hyphens of `text`, in lower case.
pub fn slug(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "unnamed".to_owned() } else { parts.join("-") }
}

/// The values of parameter `name` among `methods`, in rising order.
pub fn distinct(methods: &[&MethodRecord], name: &str) -> Vec<Value> {
    let mut values = unique(methods.iter().filter_map(|method| method.params.get(name)));
    values.sort_by(|a, b| compare_values(a, b));
    values.into_iter().cloned().collect()
}

/// The parameters that differ among `methods` of one name.
pub fn varying(methods: &[&MethodRecord]) -> Vec<String> {
    let names: BTreeSet<&String> = methods.iter().flat_map(|method| method.params.keys()).collect();
    let differs = |name: &&&String| {
        let values = unique(methods.iter().map(|method| method.params.get(name.as_str())));
        values.len() > 1
    };
    names.iter().filter(differs).map(|name| (*name).clone()).collect()
}

fn label(method: &MethodRecord, peers: &[&MethodRecord], always: &[&str]) -> String {
    let peers: Vec<&MethodRecord> = peers.iter().copied().filter(|peer| peer.name == method.name).collect();
    let mut shown: Vec<String> = always.iter().map(|name| (*name).to_owned()).collect();
    shown.extend(varying(&peers).into_iter().filter(|name| !always.contains(&name.as_str())));
    let params = shown.iter().filter_map(|name| Some(format!("{name} {}", value_words(method.params.get(name)?))));
    let parts: Vec<String> = std::iter::once(method.name.clone()).chain(params).collect();
    parts.join(", ")
}

fn compare_params(a: &MethodRecord, b: &MethodRecord) -> std::cmp::Ordering {
    let rate = |method: &MethodRecord| method.params.get("rate").and_then(Value::as_f64).unwrap_or(0.0);
    rate(a).total_cmp(&rate(b)).then_with(|| {
        let pairs = a.params.iter().zip(&b.params);
        pairs.map(|((_, a), (_, b))| compare_values(a, b)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    })
}

fn compare_values(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.to_string().cmp(&b.to_string()),
    }
}

fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}
