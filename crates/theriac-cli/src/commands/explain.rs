//! `explain`.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use theriac_core::param::nearest;
use theriac_core::{MethodInfo, Param, Surrogate};

use super::{Failure, everything, say};

#[derive(Args, Debug)]
pub struct Explain {
    /// A data set, model, attack or defense; or `train` for the training recipe.
    name: String,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        if self.name == "train" {
            say(&if self.json { json(&theriac_train::INFO).to_string() } else { page(&theriac_train::INFO) })?;
            return Ok(ExitCode::SUCCESS);
        }
        // `none` is an attack and a defense; both are told.
        let found: Vec<_> = everything().into_iter().filter(|info| info.name == self.name).collect();
        if found.is_empty() {
            let names = everything().into_iter().map(|info| info.name);
            let hint = match nearest(&self.name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "see `theriac list`".to_owned(),
            };
            return Err(Failure::Usage(format!("there is no method `{}`; {hint}", self.name)));
        }
        match (self.json, found.as_slice()) {
            (true, [info]) => say(&json(info).to_string())?,
            (true, several) => say(&serde_json::Value::from_iter(several.iter().map(|info| json(info))).to_string())?,
            (false, all) => all.iter().try_for_each(|info| say(&page(info)))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A parameter's default, as it would stand in a config.
pub(crate) fn default(param: &Param) -> String {
    match (param.default)() {
        serde_json::Value::Null => "none".to_owned(),
        value => value.to_string(),
    }
}

/// What an attack assumes, by name; empty for all other methods. The reference pages tell the same.
pub(crate) fn threat_model(info: &MethodInfo) -> Vec<(&'static str, String)> {
    let Some(threat) = info.threat else { return Vec::new() };
    let touches: Vec<_> = threat.capabilities.iter().map(ToString::to_string).collect();
    let mut told = vec![
        ("goal", threat.goal.to_string()),
        ("knowledge", threat.knowledge.to_string()),
        ("may touch", if touches.is_empty() { "nothing".to_owned() } else { touches.join(", ") }),
        ("stage", threat.stage.to_string()),
    ];
    if let Some(family) = info.family {
        told.insert(0, ("family", family.to_string()));
    }
    let surrogate = match info.surrogate {
        Surrogate::None => None,
        Surrogate::Untrained => Some("models of the victim's architecture, which it trains itself"),
        Surrogate::Trained => Some("a model of the victim's architecture, trained on clean data"),
    };
    told.extend(surrogate.map(|surrogate| ("surrogate", surrogate.to_owned())));
    told
}

/// The questions that a defense answers.
pub(crate) fn hooks(info: &MethodInfo) -> String {
    info.hooks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn page(info: &MethodInfo) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("text can be written to");
    line(format!("{} ({})", info.name, info.kind));
    line(format!("  {}", info.summary));
    for paper in info.papers {
        line(format!("  {}: {}\n  {}", paper.cite, paper.title, paper.link));
    }
    if info.threat.is_some() {
        line("\nthreat model".to_owned());
    }
    for (name, text) in threat_model(info) {
        line(format!("  {name:<10} {text}"));
    }
    if !info.hooks.is_empty() {
        line(format!("\nhooks: {}", hooks(info)));
    }
    if let Some(unit) = info.certifies {
        line(format!("certifies answers against {}", unit.several()));
    }
    if !info.verified.is_empty() {
        line("\nverified against".to_owned());
    }
    for verified in info.verified {
        line(format!("  {}: {}", verified.against, verified.agreement));
    }
    line(if info.params.is_empty() { "\nno parameters".to_owned() } else { "\nparameters".to_owned() });
    for param in info.params {
        let unit = if param.unit.is_empty() { String::new() } else { format!(", {}", param.unit) };
        line(format!("  {} = {}{unit}", param.name, default(param)));
        line(format!("      {}", param.summary()));
        line(format!("      {}", param.range));
    }
    text
}

pub(crate) fn json(info: &MethodInfo) -> serde_json::Value {
    let params: Vec<_> = info
        .params
        .iter()
        .map(|param| {
            serde_json::json!({
                "name": param.name, "doc": param.summary(), "range": param.range.to_string(), "unit": param.unit,
                "default": (param.default)(), "optional": param.optional,
            })
        })
        .collect();
    serde_json::json!({
        "name": info.name, "kind": info.kind, "summary": info.summary, "version": info.version, "papers": info.papers,
        "family": info.family, "threat": info.threat, "surrogate": info.surrogate, "hooks": info.hooks,
        "certifies": info.certifies,
        "verified": info.verified, "params": params,
    })
}
