//! Compares what lies in storage with the ledger, and puts back what the ledger does not explain.
//!
//! The measure of software supply chains (signed steps, and a log that can only grow), applied to training data: Santiago Torres-Arias, Hammad
//! Afzali, Trishank Karthik Kuppusamy, Reza Curtmola, Justin Cappos: "in-toto: Providing farm-to-table guarantees for bits and bytes",
//! USENIX Security 2019, <https://www.usenix.org/conference/usenixsecurity19/presentation/torres-arias>. The ledger is
//! `theriac-ledger`, as `theriac ledger` keeps it.
//!
//! # Assumptions
//! An auditor began a ledger of the data as they were taken in, and admitted a supplier, an annotator and an engineer, each with a key of its
//! own. What they do is entered by them, or is not: that is the attacker's choice (`tampered-storage`), and no attacker has the key of another.
//! `anchored`: the auditor kept an anchor elsewhere. `restore`: and a copy of the data and of the ledger.
//!
//! # Rule
//! ```text
//! F = findings of the ledger of now, against the anchor, and of the stored samples against it
//! if F doubts the ledger itself:
//!     F = findings of the stored samples against the kept copy of the ledger      (restore)
//!     F = all samples: nothing that the ledger says of any of them is vouched for (drop)
//! score(i) = 1 if F names sample i, else 0
//! then = "restore": each sample in F becomes what the copy has; what nobody entered goes
//! then = "drop":    each sample in F goes (the rule of provenance: what has no history is not trained on). If that is all, none does
//! ```
//! The audit reads the ledger's text, the stored samples, the anchor and the copy. It looks at no pixel and asks no model.
//!
//! # Where this differs from the paper
//! - in-toto verifies the steps of a build, and which roles may do which. Here the only step is the change of data; who may do what is the
//!   question of `access-policy`.
//!
//! # Verified against
//! The edits themselves (tests below): of 20 random change sets that nobody entered each sample is named and no other, and restoring
//! leads back to the data before. The ledger has a second opinion of its own, `scripts/verify/ledger.py`.
//!
//! # Cost
//! The ledger is written once and verified once or twice, a few hashes for each sample. For 8,000 digits that took 0.9 s in a development build
//! on a busy machine.
//!
//! # When it fails
//! Integrity is not honesty. Wrong labels that an annotator enters, and poison that a supplier delivers, are what the ledger says; the audit
//! finds nothing, by definition. So it is with an engineer who signs; but then the ledger names the engineer. Without an anchor a
//! ledger that was made anew is as good as the first one. With an anchor and no copy, all that is known is that something is wrong.

use std::collections::BTreeSet;

use theriac_core::{
    ChangeSet, Dataset, Facts, Hook, MethodInfo, Paper, Range, Role, SampleId, Seeds, Stage, Trail, Values, Verified,
    config,
};
use theriac_ledger::{Action, Anchor, Chain, Draft, Form, LedgerError, Report, Scan, SecretKey, differences, verify};

use crate::vetting::removal;
use crate::{Checked, Defense, DefenseEntry, DefenseError, Past, Verdict, VetContext};

config! {
    /// The audit.
    pub struct LedgerAudit {
        /// What is done with samples that the ledger does not explain: put back what a copy has of them, or leave them out.
        then: String = "restore", Range::Choice(&["restore", "drop"]), "";
        /// Whether an anchor of the ledger was kept where nobody else can write.
        anchored: bool = true, Range::Switch, "";
    }
}

/// What is there when the auditor comes.
struct Books {
    /// The ledger.
    text: String,
    /// The ledger as it was before the data changed.
    copy: String,
    /// Of that one.
    anchor: Option<Anchor>,
}

/// Those who write to the ledger beside the auditor.
const WRITERS: [Role; 3] = [Role::Supplier, Role::Annotator, Role::Engineer];

/// The key of whoever acts in a role.
fn key(role: Role, seeds: &Seeds) -> SecretKey {
    let mut stream = seeds.stream(&format!("key/{role}"));
    SecretKey::new(role.to_string(), std::array::from_fn(|_| stream.below(256) as u8))
}

/// A ledger that begins with `data`, signed by `founder`, who admits all others. Its clock counts entries.
fn begun(founder: Role, data: &Dataset, seeds: &Seeds) -> Result<(Chain, String), LedgerError> {
    let init = Action::Init { data: data.name().to_owned(), form: Form::Items };
    let changes = differences(&Default::default(), &Scan::dataset(data));
    let (mut chain, mut text) = Chain::begin(&key(founder, seeds), founder, 0, draft(init, Stage::Collect, changes))?;
    for role in WRITERS.into_iter().chain([Role::Auditor]).filter(|role| *role != founder) {
        let admit = Action::Admit { actor: role.to_string(), role, public: key(role, seeds).public() };
        text += &extended(&mut chain, founder, seeds, draft(admit, Stage::Store, Vec::new()))?;
    }
    Ok((chain, text))
}

fn draft(action: Action, stage: Stage, changes: Vec<theriac_ledger::Change>) -> Draft {
    Draft { stage, action, note: String::new(), changes }
}

/// The line that `role` adds.
fn extended(chain: &mut Chain, role: Role, seeds: &Seeds, draft: Draft) -> Result<String, LedgerError> {
    let time = chain.entries().len() as u64;
    chain.extend(&key(role, seeds), time, draft)
}

/// What became of the ledger while the data became `data`.
fn books(past: &Past, data: &Dataset, seeds: &Seeds) -> Result<Books, LedgerError> {
    let (mut chain, copy) = begun(Role::Auditor, past.before, seeds)?;
    let (anchor, author) = (chain.anchor(), past.changes);
    let changes = differences(chain.state(), &Scan::dataset(data));
    let text = match past.trail {
        Trail::Signed if !changes.is_empty() => {
            let change = draft(Action::Change { whole: true }, author.stage, changes);
            copy.clone() + &extended(&mut chain, author.role, seeds, change)?
        }
        Trail::Rewritten => begun(author.role, data, seeds)?.1,
        Trail::Signed | Trail::Untouched => copy.clone(),
    };
    Ok(Books { text, copy, anchor })
}

/// What the auditor finds.
struct Findings {
    /// Samples that the ledger does not explain, those that are missing included.
    samples: BTreeSet<SampleId>,
    /// Whether the ledger is not to be trusted, so that no sample is explained.
    doubted: bool,
}

impl Findings {
    fn of(report: &Report) -> Self {
        let id = |sample: &String| sample.parse().ok().map(SampleId);
        let samples = report.findings.iter().filter_map(|finding| finding.sample.as_ref().and_then(id)).collect();
        Self { samples, doubted: report.doubted.is_some() }
    }
}

impl LedgerAudit {
    fn audit(&self, books: &Books, data: &Dataset) -> Findings {
        let scan = Scan::dataset(data);
        let anchors: Vec<Anchor> = books.anchor.iter().filter(|_| self.anchored).cloned().collect();
        let against = |text: &str| Findings::of(&verify(&Chain::read(text.as_bytes()), &scan, &anchors));
        let found = against(&books.text);
        if found.doubted && self.then == "restore" { against(&books.copy) } else { found }
    }
}

impl Defense for LedgerAudit {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let past = past_of(context)?;
        let data = context.data;
        let failed = |error: LedgerError| DefenseError::Infeasible(error.to_string());
        let books = books(&past, data, context.seeds).map_err(failed)?;
        let found = self.audit(&books, data);
        let named = |index: &usize| found.doubted || found.samples.contains(&data.id(*index));
        let scores = (0..data.len()).map(|index| f64::from(u8::from(named(&index)))).collect();
        if self.then == "drop" {
            let mut gone: Vec<usize> = (0..data.len()).filter(|index| !found.doubted && named(index)).collect();
            if gone.len() == data.len() {
                gone.clear();
            }
            return Ok(removal(ENTRY.info.name, context, scores, gone));
        }
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Defender, Stage::Store);
        changes.lead(data, past.before, found.samples);
        Ok(Verdict { scores, changes })
    }
}

/// The past of the data, for those who cannot do without.
pub(crate) fn past_of<'a>(context: &VetContext<'a>) -> Result<Past<'a>, DefenseError> {
    context.past.ok_or_else(|| DefenseError::Infeasible("nothing was kept of what happened to the data".to_owned()))
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "ledger-audit",
        &[Hook::Vet],
        "Compares what lies in storage with a signed ledger, and puts back, or drops, what the ledger does not explain.",
        &[Paper {
            cite: "Torres-Arias et al. 2019",
            title: "in-toto: Providing farm-to-table guarantees for bits and bytes",
            link: "https://www.usenix.org/conference/usenixsecurity19/presentation/torres-arias",
        }],
        LedgerAudit::PARAMS,
    )
    .at_version(2)
    .verified(&[Verified {
        against: "20 random change sets, entered by nobody, by their author, or with another ledger in place of the first",
        agreement: "each changed sample and no other is named, or none, as the rule says; restored data equal those before",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(LedgerAudit::from_values(values)?))
}

#[cfg(test)]
mod tests;
