//! What a table or a figure compares: the groups of cells of one data set, one network and one training recipe.

use std::collections::BTreeSet;

use theriac_core::param::Range;
use theriac_core::record::{CellRecord, MethodRecord, filter_key};

use crate::figures::Methods;
use crate::group::{Group, NONE, compare_params, distinct, groups, label, matches, slug, unique, varying};
use crate::words::{Success, value_words};

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

/// What an attack chooses to do: its variants that have one measure of success and differ in how much is spent.
pub struct Choice<'a> {
    /// The attack, with those of its parameters that tell this choice from its others.
    pub label: String,
    /// By rising strength: the last one speaks for all.
    pub variants: Vec<&'a MethodRecord>,
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

    /// The attacks in order of appearance, `none` included; the variants of one attack stand together, by rising
    /// parameters.
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

    /// What the attack called `name` chooses to do, by the values of its choices and by how success is measured.
    pub fn choices(&self, name: &str, methods: Methods) -> Vec<Choice<'a>> {
        let variants = self.variants(name);
        let params = methods.attack(name).map(|info| info.params).unwrap_or_default();
        let is_strength = |key: &String| {
            // The number of a class is only a name.
            let is_class = params.iter().any(|param| param.name == key.as_str() && param.range == Range::Class);
            !is_class && distinct(&variants, key).iter().all(|value| value.is_number() || value.is_null())
        };
        let chosen: Vec<String> = varying(&variants).into_iter().filter(|key| !is_strength(key)).collect();
        // Unknown where nothing was measured.
        let measured = |variant: &MethodRecord| {
            let mut groups = self.groups.iter().filter(|group| group.attack() == variant);
            groups.find(|group| group.ok().next().is_some()).map(Group::success)
        };
        let mut found: Vec<(String, Option<Option<Success>>, Choice)> = Vec::new();
        for variant in variants {
            let params =
                chosen.iter().filter_map(|key| Some(format!(", {key} {}", value_words(variant.params.get(key)?))));
            let (own, success) = (params.fold(name.to_owned(), |text, param| text + &param), measured(variant));
            let alike = |of: &Option<Option<Success>>| *of == success || of.is_none() || success.is_none();
            match found.iter_mut().find(|(known, of, _)| *known == own && alike(of)) {
                Some((_, of, choice)) => {
                    *of = of.or(success);
                    choice.variants.push(variant);
                }
                None => {
                    let measure = || success.flatten().map_or("accuracy", Success::short);
                    let taken = found.iter().any(|(known, _, _)| *known == own);
                    let label = if taken { format!("{own}, {}", measure()) } else { own.clone() };
                    found.push((own, success, Choice { label, variants: vec![variant] }));
                }
            }
        }
        found.into_iter().map(|(_, _, choice)| choice).collect()
    }

    /// The variant that spends most.
    pub fn strongest(&self, choice: &Choice<'a>) -> Option<&'a MethodRecord> {
        choice.variants.iter().rev().copied().find(|attack| self.undefended(attack).is_some())
    }

    /// The defenses in order of appearance, `none` included; each matched reference follows its filter.
    pub fn defenses(&self) -> Vec<&'a MethodRecord> {
        let all = unique(self.groups.iter().map(Group::defense));
        let (mut matched, own): (Vec<_>, Vec<_>) = all.into_iter().partition(|defense| matches(defense).is_some());
        let mut ordered: Vec<&MethodRecord> = Vec::new();
        for defense in &own {
            ordered.push(defense);
            let key = filter_key(defense, &own);
            let (follow, rest) = matched.into_iter().partition(|method| matches(method) == Some(&key));
            ordered.extend::<Vec<_>>(follow);
            matched = rest;
        }
        ordered.extend(matched);
        ordered
    }

    /// The reference called `name` (the random or the perfect filter) that has the removal budget of `filter`.
    pub fn matched(&self, filter: &Group, name: &str) -> Option<&Group<'a>> {
        let key = filter_key(filter.defense(), &self.defenses());
        let mut references =
            self.groups.iter().filter(|group| group.attack() == filter.attack() && group.defense().name == name);
        references.find(|group| matches(group.defense()) == Some(&key))
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
            None => {
                let peers: Vec<_> = self.defenses().into_iter().filter(|peer| matches(peer).is_none()).collect();
                label(defense, &peers, &[])
            }
        }
    }
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
