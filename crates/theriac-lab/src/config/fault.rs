//! What can be wrong with a config, and how a person is told.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use theriac_core::param::nearest;

/// A config that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read at all.
    #[error("failed to read the config `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can be read; these faults are in it.
    #[error(transparent)]
    Faulty(#[from] Faults),
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that means nothing here.
    #[error("unknown key `{key}`{}", hint(near, known))]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest known key.
        near: Option<String>,
        /// All known keys.
        known: Vec<String>,
    },
    /// A name that stands for nothing here.
    #[error("there is no {what} \"{name}\"{}", hint(near, known))]
    UnknownName {
        /// Such as `attack`, or `filter in this experiment`.
        what: String,
        /// The name.
        name: String,
        /// The nearest known name.
        near: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A key that must be there.
    #[error("the key `{0}` is missing")]
    Missing(String),
    /// A value of the wrong type or out of range.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A value that its parameter or its method refuses.
    #[error("{0}")]
    Refused(String),
    /// An axis without values.
    #[error("the list is empty; expected at least one value")]
    EmptyList,
    /// The same thing twice.
    #[error("{0} is listed twice")]
    Repeated(String),
    /// A study of nothing.
    #[error("there is no experiment; add an [[experiment]]")]
    NoExperiments,
    /// More combinations than anybody can mean.
    #[error("the lists make {0} combinations; at most {1} are possible")]
    TooMany(u128, usize),
}

impl Rule {
    /// An unknown key among `known` ones.
    pub(super) fn unknown_key<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let (near, known) = neighbours(key, known);
        Self::UnknownKey { key: key.to_owned(), near, known }
    }

    /// An unknown name among `known` ones.
    pub(super) fn unknown_name<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let (near, known) = neighbours(name, known);
        Self::UnknownName { what: what.to_owned(), name: name.to_owned(), near, known }
    }

    /// A value of the wrong kind.
    pub(super) fn expected(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::Expected { expected: expected.to_string(), found: found.to_string() }
    }
}

fn neighbours<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> (Option<String>, Vec<String>) {
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(word, known.iter().copied()).map(str::to_owned);
    (near, known.into_iter().map(str::to_owned).collect())
}

/// The end of a message about an unknown word.
fn hint(near: &Option<String>, known: &[String]) -> String {
    match (near, known) {
        (Some(near), _) => format!("; did you mean `{near}`?"),
        (None, []) => "; none is known here".to_owned(),
        (None, known) => format!("; known are {}", known.join(", ")),
    }
}

/// A broken rule and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// The keys that lead there, such as `experiment[backdoor].attack[badnets].rate`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub rule: Rule,
}

/// All faults of one config, in the order of the text.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file, as given.
    pub file: String,
    /// Its text.
    pub text: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl std::error::Error for Faults {}

impl Faults {
    /// Sorts by place; what is found twice in one place (once in a shared table, once where it is used) is told once.
    pub(super) fn new(file: &str, text: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        let mut told: Vec<Fault> = Vec::new();
        for fault in faults {
            if !told.iter().any(|other| other.span == fault.span && other.rule == fault.rule) {
                told.push(fault);
            }
        }
        Self { file: file.to_owned(), text: text.to_owned(), faults: told }
    }

    /// Line and column of a byte, both counted from 1; columns count characters.
    pub fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "failed to accept the config `{}`: {count} {noun}", self.file)?;
        for fault in &self.faults {
            let (line, column) = self.place(fault.span.start);
            // A tab is as wide as the terminal likes; as a blank it keeps the caret in its place.
            let shown = self.text.lines().nth(line - 1).unwrap_or_default().replace('\t', " ");
            let left = shown.chars().count().saturating_sub(column - 1);
            let marked = self.text.get(fault.span.clone()).unwrap_or_default();
            let width = marked.lines().next().unwrap_or_default().chars().count().min(left).max(1);
            let gutter = " ".repeat(line.to_string().len());
            let path = if fault.path.is_empty() { String::new() } else { format!(" {}", fault.path) };
            write!(f, "\n\n{}:{line}:{column}:{path}\n", self.file)?;
            writeln!(f, " {gutter} |")?;
            writeln!(f, " {line} | {shown}")?;
            write!(f, " {gutter} | {}{} {}", " ".repeat(column - 1), "^".repeat(width), fault.rule)?;
        }
        Ok(())
    }
}
