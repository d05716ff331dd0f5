//! Threat models in words.

use std::collections::BTreeSet;

use theriac_core::param::Param;
use theriac_core::{Capability, Goal, Knowledge, MethodInfo, Stage, Surrogate, ThreatModel};

use crate::figures::Methods;
use crate::group::distinct;
use crate::plot::escape;
use crate::setting::Setting;
use crate::words::{list, value_words};

/// The attacks of some settings, each with what it assumes and what it was told.
pub fn attacks(out: &mut String, settings: &[&Setting], methods: Methods) {
    let mut seen = BTreeSet::new();
    let names: Vec<&str> =
        settings.iter().flat_map(|setting| setting.attack_names()).filter(|name| seen.insert(*name)).collect();
    if names.is_empty() {
        return;
    }
    out.push_str("<h3>Threat models</h3>\n<dl class=\"threats\">\n");
    for name in names {
        let info = methods.attack(name);
        let family = info.and_then(|info| info.family).map(|family| format!(" <span class=\"tag\">{family}</span>"));
        out.push_str(&format!("<dt>{}{}</dt>\n<dd>", escape(name), family.unwrap_or_default()));
        match info {
            Some(info) => describe(out, info),
            None => out.push_str("<p>This version of Theriac does not know the attack.</p>"),
        }
        let variants: Vec<_> = settings.iter().flat_map(|setting| setting.variants(name)).collect();
        params(out, &variants, info.map(|info| info.params).unwrap_or_default());
        out.push_str("</dd>\n");
    }
    out.push_str("</dl>\n");
}

fn describe(out: &mut String, info: &MethodInfo) {
    let papers: Vec<String> = info
        .papers
        .iter()
        .map(|paper| format!("{}, <cite>{}</cite>", escape(paper.cite), escape(paper.title)))
        .collect();
    let papers = if papers.is_empty() { String::new() } else { format!(" ({})", papers.join("; ")) };
    out.push_str(&format!("<p>{}{papers}</p>", escape(info.summary)));
    if let Some(threat) = info.threat {
        out.push_str(&format!("<p>{}</p>", escape(&words(&threat, info.surrogate))));
    }
}

/// The whole threat model as sentences.
pub fn words(threat: &ThreatModel, surrogate: Surrogate) -> String {
    let knowledge = match threat.knowledge {
        Knowledge::Nothing => "nothing but what it changes",
        Knowledge::Data => "the training data",
        Knowledge::Architecture => "the training data and the architecture",
        Knowledge::Weights => "the victim's weights",
    };
    let able = threat.capabilities.iter().map(|capability| match capability {
        Capability::Labels => "change labels",
        Capability::Inputs => "change inputs",
        Capability::Insert => "insert samples",
        Capability::Remove => "remove samples",
        Capability::Source => "control a whole source",
        Capability::Recipe => "change the training code",
        Capability::Weights => "change weights",
        Capability::Architecture => "change the architecture",
    });
    let able: Vec<String> = able.map(str::to_owned).collect();
    let goal = match threat.goal {
        Goal::Untargeted => "a worse model (untargeted)",
        Goal::Targeted => "certain inputs or classes to go wrong (targeted)",
        Goal::Backdoor => "a trigger to decide the answer (backdoor)",
    };
    let stage = match threat.stage {
        Stage::Collect => "data are collected",
        Stage::Label => "labels are given",
        Stage::Store => "data lie in storage",
        Stage::Train => "the model is trained",
        Stage::Distribute => "the model is handed on",
        Stage::Deploy => "the model is in use",
    };
    let able = if able.is_empty() { "change nothing".to_owned() } else { list(&able) };
    let surrogate = match surrogate {
        Surrogate::None => "",
        Surrogate::Untrained => " It trains networks of the victim's architecture.",
        Surrogate::Trained => " It trains a surrogate of the victim's architecture.",
    };
    format!("Knows {knowledge}; may {able}; wants {goal}; stands where {stage}.{surrogate}")
}

fn params(out: &mut String, variants: &[&theriac_core::record::MethodRecord], known: &[Param]) {
    let names: BTreeSet<&String> = variants.iter().flat_map(|variant| variant.params.keys()).collect();
    if names.is_empty() {
        return;
    }
    let words = names.iter().map(|name| {
        let values: Vec<String> = distinct(variants, name).iter().map(value_words).collect();
        let unit = known.iter().find(|param| param.name == name.as_str()).map(|param| param.unit).unwrap_or_default();
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        format!("<code>{}</code> = {}{}", escape(name), escape(&values.join(", ")), escape(&unit))
    });
    let budget = "Budget and parameters: ";
    out.push_str(&format!("<p class=\"params\">{budget}{}.</p>", words.collect::<Vec<_>>().join("; ")));
}
