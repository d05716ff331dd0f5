//! Labels that people gave, read from a table.

use std::path::Path;

use theriac_core::{Digest, Facts, Label};

/// Reads `column` of the CSV table at `path`: a class index for each training sample, in their order. The file must have the content
/// `digest`, so that a study says which labels it means.
///
/// # Errors
/// The key that is wrong, and what to do.
pub(super) fn read(
    path: &str,
    column: &str,
    digest: Option<&str>,
    facts: &Facts,
) -> Result<Vec<Label>, (&'static str, String)> {
    let bytes = std::fs::read(Path::new(path)).map_err(|error| {
        ("labels", format!("failed to read `{path}`: {error}; a relative path is looked for in the current directory"))
    })?;
    let found = Digest::of(&bytes).to_string();
    if digest != Some(found.as_str()) {
        let stands = digest.map_or_else(String::new, |digest| format!(", not `{digest}`"));
        return Err((
            "blake3",
            format!(
                "`{path}` has the hash `{found}`{stands}; if these are the labels that you mean, write `blake3 = \"{found}\"`"
            ),
        ));
    }
    let wrong = |error: String| ("labels", format!("failed to read `{path}`: {error}"));
    let mut table = csv::Reader::from_reader(bytes.as_slice());
    let names = table.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let place = names.iter().position(|name| name == column).ok_or_else(|| {
        let names: Vec<&str> = names.iter().collect();
        ("column", format!("expected a column of `{path}`, which has {}, found `{column}`", names.join(", ")))
    })?;
    let label = |row: Result<csv::StringRecord, csv::Error>| {
        let row = row.map_err(|error| wrong(error.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let word = row.get(place).unwrap_or_default().trim();
        let label = word.parse().ok().filter(|&label: &Label| usize::from(label) < facts.classes);
        label.ok_or_else(|| {
            wrong(format!(
                "line {line}: expected a class from 0 to {}, found `{word}`",
                facts.classes.saturating_sub(1)
            ))
        })
    };
    let labels: Vec<Label> = table.records().map(label).collect::<Result<_, _>>()?;
    if labels.len() != facts.train {
        let (rows, train) = (labels.len(), facts.train);
        return Err(wrong(format!(
            "it has {rows} labels, the training set {train} samples; labels are those of the whole set, so `data` must not take a part of it"
        )));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use theriac_core::{Digest, Label, Value};

    use super::super::ENTRY;
    use crate::testing::{self, attack, faults, poison_on};

    /// A table on disk, and its hash.
    fn table(name: &str, text: &str) -> (String, String) {
        let path = std::env::temp_dir().join(format!("theriac-{}-{name}.csv", std::process::id()));
        std::fs::write(&path, text).unwrap();
        (path.to_str().unwrap().to_owned(), Digest::of(text.as_bytes()).to_string())
    }

    fn given<'a>(path: &str, column: &str, digest: &str) -> [(&'a str, Value); 4] {
        [("mode", "file".into()), ("labels", path.into()), ("column", column.into()), ("blake3", digest.into())]
    }

    #[test]
    fn labels_become_those_of_the_table() {
        let train = testing::train();
        let label = |index| if index % 7 == 3 { 1 } else { train.label(index) };
        let labels: Vec<Label> = (0..train.len()).map(label).collect();
        let rows: String = labels.iter().enumerate().map(|(index, label)| format!("{index},{label}\n")).collect();
        let (path, digest) = table("labels", &format!("index,worst\n{rows}"));
        let attack = attack(&ENTRY, given(&path, "worst", &digest));
        std::fs::remove_file(path).unwrap();
        let changes = poison_on(&*attack, &train, 1).unwrap();
        assert_eq!(changes.apply(&train).unwrap().labels(), labels);
        let changed = (0..train.len()).filter(|&index| labels[index] != train.label(index)).count();
        assert_eq!((changes.touched().len(), attack.budget(&train).samples), (changed, changed));
    }

    #[test]
    fn a_table_that_does_not_fit_says_why() {
        let (path, digest) = table("wrong", "index,worst\n0,1\n1,9999\n");
        let (short, of_short) = table("short", "worst\n0\n1\n");
        let found = [
            faults(&ENTRY, given("no/such.csv", "worst", "")),
            faults(&ENTRY, given(&path, "worst", "12ab")),
            faults(&ENTRY, given(&path, "best", &digest)),
            faults(&ENTRY, given(&path, "worst", &digest)),
            faults(&ENTRY, given(&short, "worst", &of_short)),
            faults(&ENTRY, [("mode", "file".into())]),
            faults(&ENTRY, [("labels", short.as_str().into())]),
        ];
        let told = ["no/such.csv", &digest, "index, worst", "line 3", "2 labels", "needs a table", "takes no table"];
        for (found, told) in found.iter().zip(told) {
            assert!(found.contains(told), "{told}: {found}");
        }
        [path, short].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}
