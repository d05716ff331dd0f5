//! Least privilege: who may change what, and what takes a second person.
//!
//! Jerome H. Saltzer, Michael D. Schroeder: "The Protection of Information in Computer Systems", Proceedings of the IEEE 1975,
//! <https://doi.org/10.1109/PROC.1975.9939>: least privilege, and separation of privilege.
//!
//! # Assumptions
//! Every change of data passes an access control that knows who asks. The attacker has a position of the organisation that may do all that its
//! attack takes, of these the one of which fewest changes are denied, and then fewest held; what nobody may do comes from outside and is
//! denied. Nobody has the account of another.
//!
//! # Rule
//! ```text
//! edit e of a sample takes the permission p = (labels | inputs | insert | remove)@stage, or source@stage for who controls a source
//! denied   if the role may not do p, or not in the round in which the sample arrives, or p is in `withdraw`
//! held     if p takes a second person, in the file or by `second_person`: who looks at e alone and misses it with probability `miss`
//! allowed  otherwise
//! score(i) = 1 if an edit of sample i was denied, or held and not missed, else 0;  those edits never happen
//! ```
//! The organisation is a file, as `theriac results roles` reads it. A permission is `"labels@store"`, or with a second person
//! `{ permission = "labels@store", needs = "second-person" }`. `rounds = [1, 5]` in it says in which rounds of arrival it holds.
//!
//! # Where this differs from the paper
//! - There separation of privilege means two keys to one lock. Here the second person looks at each edit by itself and may be wrong,
//!   independently of all others. It sees only what is held: where images take a second person and labels do not, a backdoor loses its
//!   triggers and leaves its wrong labels.
//! - Honest changes are not part of an experiment, so what a policy costs those who work is not measured.
//!
//! # Verified against
//! Decisions by hand for each kind of edit, and the share of held edits that pass, which is `miss` (tests below).
//!
//! # When it fails
//! Whoever uses its own permissions is allowed to. The policy tells no good change from a bad one; only the second person does.

use std::collections::BTreeSet;

use theriac_core::organisation::{Grant, Organisation, Permission, Position, allows};
use theriac_core::{
    Capability, ChangeSet, Digest, Edit, Facts, Hook, MethodInfo, Paper, ParamError, Range, Role, SampleId, Stage,
    Values, Verified, config,
};

use crate::ledger_audit::past_of;
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

/// A small organisation that trains and serves a model.
const USUAL: &str = include_str!("../../../configs/scenarios/organisation.toml");

config! {
    /// The policy.
    pub struct AccessPolicy {
        /// A TOML file with the roles and what each may do; `configs/scenarios/organisation.toml` if absent.
        organisation: Option<String> = None::<String>, Range::Text, "";
        /// The BLAKE3 hash of that file, so that a study means the same organisation everywhere.
        blake3: Option<String> = None::<String>, Range::Text, "";
        /// Permissions that are taken from everybody, such as `labels@store+inputs@store`.
        withdraw: String = "", Range::Text, "";
        /// Permissions that take a second person, in the same form.
        second_person: String = "", Range::Text, "";
        /// How often the second person does not see what is wrong with an edit.
        miss: f64 = 0.1, Range::Number(0.0, 1.0), "of the edits";
    }
}

/// The checked policy.
struct Policy {
    positions: Vec<Position>,
    withdrawn: Vec<Permission>,
    miss: f64,
}

/// What becomes of an edit, the strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Decision {
    Denied,
    Held,
    Allowed,
}

/// What an edit of a sample can take.
const DATA: [Capability; 5] =
    [Capability::Labels, Capability::Inputs, Capability::Insert, Capability::Remove, Capability::Source];

/// The organisation in `text`.
fn organisation(text: &str) -> Result<Organisation, String> {
    let read: Organisation = toml::from_str(text).map_err(|error| error.to_string())?;
    read.check().map_err(|error| error.to_string())
}

/// The organisation in the file at `path`, which must have the content `digest`.
fn read(path: &str, digest: Option<&str>) -> Result<Organisation, ParamError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message =
            format!("failed to read `{path}`: {error}; a relative path is looked for in the current directory");
        ParamError::new("organisation", message)
    })?;
    let read = organisation(&text)
        .map_err(|error| ParamError::new("organisation", format!("`{path}` is none: {}", error.trim_end())))?;
    let found = Digest::of(text.as_bytes()).to_string();
    if digest == Some(found.as_str()) {
        return Ok(read);
    }
    let message =
        format!("`{path}` has the hash `{found}`; if this is the one that you mean, write `blake3 = \"{found}\"`");
    Err(ParamError::new("blake3", message))
}

/// Permissions that are joined by `+`, each of which somebody has.
fn permissions(key: &str, text: &str, positions: &[Position]) -> Result<Vec<Permission>, ParamError> {
    let of = |word: &str| {
        let permission: Permission = word.trim().to_owned().try_into()?;
        if !DATA.contains(&permission.capability) {
            return Err(format!("`{word}` is no change of data, and this policy sees nothing else"));
        }
        let held = positions.iter().any(|position| position.permissions().contains(&permission));
        held.then_some(permission).ok_or_else(|| format!("nobody in the organisation may do `{word}`"))
    };
    let words = text.split('+').filter(|word| !word.is_empty());
    words.map(of).collect::<Result<_, String>>().map_err(|message| ParamError::new(key, message))
}

impl AccessPolicy {
    fn check(self) -> Result<Policy, Vec<ParamError>> {
        let one = |error: ParamError| vec![error];
        let mut positions = match (&self.organisation, &self.blake3) {
            (Some(path), digest) => read(path, digest.as_deref()).map_err(one)?.positions,
            (None, Some(_)) => {
                return Err(one(ParamError::new("blake3", "it is the hash of an `organisation`, and none is named")));
            }
            (None, None) => organisation(USUAL).expect("the usual organisation is one").positions,
        };
        let withdrawn = permissions("withdraw", &self.withdraw, &positions).map_err(one)?;
        let held = permissions("second_person", &self.second_person, &positions).map_err(one)?;
        let grants = positions.iter_mut().flat_map(|position| &mut position.may);
        grants.for_each(|grant| grant.second_person |= held.contains(&grant.permission));
        Ok(Policy { positions, withdrawn, miss: self.miss })
    }
}

impl Policy {
    /// Of what `actor` wants to do to a sample that arrives in `round`.
    fn decide(&self, actor: Option<&Position>, permission: Permission, round: usize) -> Decision {
        let holds = |grant: &&Grant| {
            let [first, last] = grant.rounds.unwrap_or([1, usize::MAX]);
            grant.permission == permission && (first..=last).contains(&round) && !self.withdrawn.contains(&permission)
        };
        let decision = |grant: &Grant| if grant.second_person { Decision::Held } else { Decision::Allowed };
        let grants = actor.into_iter().flat_map(|actor| actor.may.iter().filter(holds));
        grants.map(decision).max().unwrap_or(Decision::Denied)
    }
}

/// What an edit takes.
fn capability(edit: &Edit) -> Capability {
    match edit {
        Edit::Relabel { .. } => Capability::Labels,
        Edit::Replace { .. } => Capability::Inputs,
        Edit::Insert { .. } => Capability::Insert,
        Edit::Remove { .. } => Capability::Remove,
    }
}

impl Defense for Policy {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let (past, data) = (past_of(context)?, context.data);
        let able = |position: &&Position| past.threat.is_some_and(|threat| allows(&position.permissions(), &threat));
        let whole_source = past.threat.is_some_and(|threat| threat.capabilities.contains(&Capability::Source));
        let mut second_person = context.seeds.stream("second-person");
        let of = |actor: Option<&Position>| -> Vec<Decision> {
            let decide = |edit: &Edit| {
                let capability = if whole_source { Capability::Source } else { capability(edit) };
                let permission = Permission { capability, stage: past.changes.stage };
                self.decide(actor, permission, (past.round_of)(edit.id()))
            };
            past.changes.edits.iter().map(decide).collect()
        };
        let strictness = |decisions: &Vec<Decision>| {
            [Decision::Denied, Decision::Held].map(|which| decisions.iter().filter(|&&found| found == which).count())
        };
        let candidates = self.positions.iter().filter(able).map(|position| of(Some(position)));
        let decisions = candidates.min_by_key(strictness).unwrap_or_else(|| of(None));
        let (mut passed, mut stopped): (Vec<Edit>, Vec<Edit>) = Default::default();
        for (edit, decision) in past.changes.edits.iter().zip(decisions) {
            let passes = match decision {
                Decision::Denied => false,
                Decision::Held => second_person.chance(self.miss),
                Decision::Allowed => true,
            };
            if passes { &mut passed } else { &mut stopped }.push(edit.clone());
        }
        let happened = ChangeSet { edits: passed, ..past.changes.clone() };
        let wanted = happened.apply(past.before).map_err(|error| DefenseError::Infeasible(error.to_string()))?;
        let stopped: BTreeSet<SampleId> = stopped.iter().map(Edit::id).collect();
        let scores = (0..data.len()).map(|at| f64::from(u8::from(stopped.contains(&data.id(at))))).collect();
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Defender, Stage::Store);
        changes.lead(data, &wanted, stopped);
        Ok(Verdict { scores, changes })
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "access-policy",
        &[Hook::Vet],
        "Denies changes that the role of their author may not make, and has a second person look at those that take one.",
        &[Paper {
            cite: "Saltzer & Schroeder 1975",
            title: "The Protection of Information in Computer Systems",
            link: "https://doi.org/10.1109/PROC.1975.9939",
        }],
        AccessPolicy::PARAMS,
    )
    .at_version(2)
    .verified(&[Verified {
        against: "decisions by hand for each kind of edit; the binomial law of what a second person misses",
        agreement: "each decision equal; the share that passes within four standard deviations",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(AccessPolicy::from_values(values)?.check()?))
}

#[cfg(test)]
mod tests;
