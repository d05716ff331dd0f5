//! `list`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use theriac_core::{Kind, MethodInfo};

use super::{Failure, REGISTRIES, say};
use crate::workbench::methods;

#[derive(Args, Debug)]
pub struct List {
    /// Which registry; all of them if absent.
    what: Option<What>,
    /// Print names, summaries and parameters as JSON.
    #[arg(long)]
    json: bool,
    /// Show what each attack and defense was verified against, and how far they agree.
    #[arg(long, conflicts_with = "json")]
    verified: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Datasets,
    Models,
    Attacks,
    Defenses,
}

impl What {
    fn kind(self) -> Kind {
        match self {
            Self::Datasets => Kind::Dataset,
            Self::Models => Kind::Model,
            Self::Attacks => Kind::Attack,
            Self::Defenses => Kind::Defense,
        }
    }
}

/// What a person sorts a method by: an attack's family, a defense's hooks.
pub(crate) fn trait_of(info: &MethodInfo) -> String {
    match info.family {
        Some(family) => family.to_string(),
        None => super::explain::hooks(info),
    }
}

/// What a method was verified against.
fn record(info: &MethodInfo) -> Result<(), Failure> {
    let lines = info.verified.iter().map(|verified| format!("{}: {}", verified.against, verified.agreement));
    let lines: Vec<String> = if info.verified.is_empty() { vec!["no record".to_owned()] } else { lines.collect() };
    say(&format!("  {:<22} {}", info.name, lines.join(&format!("\n{:25}", ""))))
}

impl List {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let wanted = |kind: Kind| self.what.is_none_or(|what| what.kind() == kind);
        let chosen = REGISTRIES.into_iter().filter(|(_, kind)| wanted(*kind));
        if self.json {
            let rows: Vec<_> = chosen.flat_map(|(_, kind)| methods(kind)).map(super::explain::json).collect();
            say(&serde_json::Value::from(rows).to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        let chosen = chosen.filter(|(_, kind)| !self.verified || matches!(kind, Kind::Attack | Kind::Defense));
        for (title, kind) in chosen {
            say(title)?;
            for info in methods(kind) {
                let sort = trait_of(info);
                let sort = if sort.is_empty() { String::new() } else { format!("[{sort}] ") };
                match self.verified {
                    false => say(&format!("  {:<22} {sort}{}", info.name, info.summary))?,
                    true => record(info)?,
                }
            }
            say("")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
