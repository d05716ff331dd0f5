//! What adds to a ledger.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Subcommand;
use theriac_core::files::FileError;
use theriac_core::{Digest, Role, Stage};
use theriac_ledger::{Action, Change, Draft, Entry, Healed, Ledger, LedgerError, SecretKey, differences, of_file};

use super::place::{Place, Signer};
use super::{Note, line};
use crate::commands::{Failure, note as remark};

/// What happens to data that stay as they are.
#[derive(Subcommand, Debug)]
pub enum Event {
    /// A model was trained on the data as they are.
    Train {
        /// The file of the training code or its config.
        #[arg(long, value_name = "FILE")]
        recipe: PathBuf,
        /// The file of the model.
        #[arg(long, value_name = "FILE")]
        model: PathBuf,
    },
    /// A model was handed on.
    Publish {
        /// The file of the model.
        #[arg(value_name = "FILE")]
        model: PathBuf,
    },
    /// The data were read or handed out.
    Access {
        /// For what.
        purpose: String,
    },
    /// Something was tried and refused.
    Deny {
        /// What.
        tried: String,
    },
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "an entry says when it was made")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub fn key(name: &str, out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Failure::Usage(format!("an author's name has letters, digits, and -_.@ only, not `{name}`")));
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| Failure::Step(format!("failed to draw a key: {error}")))?;
    let (key, path) = (SecretKey::new(name, random), out.unwrap_or_else(|| format!("{name}.theriac-key").into()));
    key.write(&path)?;
    remark(format_args!("the secret half is in `{}`: keep it to yourself, and keep a copy", path.display()));
    line(&key.public().to_string())?;
    Ok(ExitCode::SUCCESS)
}

pub fn init(place: &Place, role: Role, signer: &Signer, note: Note) -> Result<ExitCode, Failure> {
    let secret = signer.key(place)?;
    if !matches!(role, Role::Engineer | Role::Auditor) {
        return Err(Failure::Usage(format!("the first author is an engineer or an auditor, not of the role `{role}`")));
    }
    let whole = std::fs::canonicalize(&place.data).map_err(FileError::at("find the data", &place.data))?;
    let data = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scan = place.scan()?;
    complete(&scan.unreadable)?;
    let action = Action::Init { data, form: place.form() };
    let draft = draft(action, note, differences(&Default::default(), &scan));
    let ledger = Ledger::init(&place.ledger, &secret, role, now(), draft)?;
    let count = ledger.chain().state().count();
    line(&format!("began the ledger `{}` with {count} samples, signed by {}", place.ledger.display(), secret.name()))?;
    Ok(ExitCode::SUCCESS)
}

pub fn record(place: &Place, signer: &Signer, note: &Note) -> Result<ExitCode, Failure> {
    let secret = signer.key(place)?;
    let made = append(place, &secret, |ledger| {
        let scan = place.scan_for(ledger.chain())?;
        complete(&scan.unreadable)?;
        let changes = differences(ledger.chain().state(), &scan);
        let note = Note { note: note.note.clone(), stage: note.stage };
        Ok((!changes.is_empty()).then(|| draft(Action::Change { whole: true }, note, changes)))
    })?;
    match made {
        Some(entry) => line(&format!("entry {}: {}", entry.header.number, summary(&entry.changes)))?,
        None => line("nothing changed")?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn preview(place: &Place) -> Result<ExitCode, Failure> {
    let ledger = place.open()?;
    let scan = place.scan_for(ledger.chain())?;
    let changes = differences(ledger.chain().state(), &scan);
    list(&changes)?;
    scan.unreadable.iter().try_for_each(|(key, why)| line(&format!("unreadable {key}: {why}")))?;
    line(&format!("would record: {}", summary(&changes)))?;
    Ok(ExitCode::SUCCESS)
}

/// Changes, one a line.
pub fn list(changes: &[Change]) -> Result<(), Failure> {
    changes.iter().try_for_each(|change| line(&format!("{:<8} {}", word(change), change.key)))
}

pub fn word(change: &Change) -> &'static str {
    match (change.before, change.after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    }
}

/// How many of each kind.
pub fn summary(changes: &[Change]) -> String {
    let count = |kind: &str| changes.iter().filter(|change| word(change) == kind).count();
    let counts = ["added", "changed", "removed"].map(|kind| (count(kind), kind));
    let told: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
    if told.is_empty() { "nothing changed".to_owned() } else { told.join(", ") }
}

pub fn admit(place: &Place, who: (String, String, Role), signer: &Signer, note: Note) -> Result<ExitCode, Failure> {
    let (actor, public, role) = who;
    let public = public.parse().map_err(|error: theriac_ledger::KeyError| Failure::Usage(error.to_string()))?;
    let told = format!("{actor} may sign as {role}");
    once(place, signer, draft(Action::Admit { actor, role, public }, note, Vec::new()), &told)
}

pub fn retire(place: &Place, key: &str, signer: &Signer, note: Note) -> Result<ExitCode, Failure> {
    let ledger = place.open()?;
    let actors = ledger.chain().actors();
    let meant: Vec<_> = actors.active().filter(|a| a.name == key || a.public.to_string().starts_with(key)).collect();
    let [actor] = &meant[..] else {
        let all: Vec<String> = actors.active().map(|a| format!("{} of {}", a.public.fingerprint(), a.name)).collect();
        let found = if meant.is_empty() { "no key" } else { "several keys" };
        return Err(Failure::Usage(format!("{found} that may sign is meant by `{key}`; there are {}", all.join(", "))));
    };
    let (public, name) = (actor.public, actor.name.clone());
    let told = format!("key {} of {name} signs no longer", public.fingerprint());
    once(place, signer, draft(Action::Retire { public }, note, Vec::new()), &told)
}

pub fn tell(place: &Place, event: Event, signer: &Signer, note: Note) -> Result<ExitCode, Failure> {
    let (action, told) = match event {
        Event::Train { recipe, model } => {
            let (recipe, model) = (digest(&recipe)?, digest(&model)?);
            let ledger = place.open()?;
            // What was trained on has to be known to the ledger.
            let scan = place.scan_for(ledger.chain())?;
            complete(&scan.unreadable)?;
            let state = ledger.chain().state();
            let changes = differences(state, &scan);
            if !changes.is_empty() {
                let what = summary(&changes);
                let message = format!(
                    "failed to note a training: the data are not those of the ledger ({what}); record or restore them first"
                );
                return Err(Failure::Step(message));
            }
            (Action::Train { data: state.root(), recipe, model }, "training noted")
        }
        Event::Publish { model } => (Action::Publish { model: digest(&model)? }, "publication noted"),
        Event::Access { purpose } => (Action::Access { purpose }, "access noted"),
        Event::Deny { tried } => (Action::Deny { tried }, "refusal noted"),
    };
    once(place, signer, draft(action, note, Vec::new()), told)
}

/// Signs that nothing was found in the ledger that ended in the entry `verified`.
pub fn attest(place: &Place, signer: &Signer, verified: Option<Digest>) -> Result<Entry, Failure> {
    let secret = signer.key(place)?;
    let made = append(place, &secret, |ledger| {
        if ledger.chain().digests().last().copied() != verified {
            let message = "failed to attest: somebody else wrote to the ledger while it was verified; verify it again";
            return Err(Failure::Step(message.to_owned()));
        }
        let note = Note { note: String::new(), stage: Stage::Store };
        Ok(Some(draft(Action::Attest, note, Vec::new())))
    })?;
    Ok(made.expect("there is something to append"))
}

pub fn heal(place: &Place) -> Result<ExitCode, Failure> {
    line(&match Ledger::heal(&place.ledger)? {
        Healed::Whole => "nothing to heal: the last line is whole".to_owned(),
        Healed::Ended => "the last line was whole but for its end, and has it again".to_owned(),
        Healed::SetAside(path) => format!("the cut line is now in `{}`; record what it was about anew", path.display()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn draft(action: Action, note: Note, changes: Vec<Change>) -> Draft {
    Draft { stage: note.stage, action, note: note.note, changes }
}

fn digest(path: &Path) -> Result<Digest, Failure> {
    Ok(of_file(&std::fs::read(path).map_err(FileError::at("read", path))?))
}

/// Refuses to sign what could not be read.
fn complete(unreadable: &[(String, String)]) -> Result<(), Failure> {
    match unreadable {
        [] => Ok(()),
        [(key, why), rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            Err(Failure::Step(format!("failed to read all samples: `{key}`: {why}{more}; nothing was recorded")))
        }
    }
}

fn once(place: &Place, signer: &Signer, draft: Draft, told: &str) -> Result<ExitCode, Failure> {
    let secret = signer.key(place)?;
    let made = append(place, &secret, |_| Ok(Some(draft.clone())))?;
    let number = made.map(|entry| entry.header.number).unwrap_or_default();
    line(&format!("entry {number}: {told}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Appends what `make` makes of the ledger as it is. Where somebody else was faster, it is read again.
fn append(
    place: &Place,
    secret: &SecretKey,
    make: impl Fn(&Ledger) -> Result<Option<Draft>, Failure>,
) -> Result<Option<Entry>, Failure> {
    loop {
        let mut ledger = place.open()?;
        let Some(draft) = make(&ledger)? else { return Ok(None) };
        match ledger.append(secret, now(), draft) {
            // Each time somebody else has made an entry, so this ends.
            Err(LedgerError::Moved(_)) => {}
            appended => return Ok(Some(appended?.clone())),
        }
    }
}
