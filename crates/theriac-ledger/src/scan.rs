//! The samples of a folder, of a table and of a data set, with the digests of their contents.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use theriac_core::files::FileError;
use theriac_core::{Dataset, Digest};

use crate::compare::Scan;
use crate::hash::{Message, Tag};

impl Scan {
    /// Every file below `root`, hidden ones too, but for the folder `ledger`. The key is the path in `root`, with `/` between its parts.
    /// A link is what it says and, if it leads to a file, what is there; links to folders are not followed.
    ///
    /// # Errors
    /// When `root` cannot be read. What cannot be read below it is named in the scan.
    pub fn folder(root: &Path, ledger: &Path) -> Result<Self, FileError> {
        let ledger = fs::canonicalize(ledger).ok();
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        let mut folders = vec![(String::new(), root.to_owned())];
        while let Some((prefix, folder)) = folders.pop() {
            let listed = fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let entries = match listed {
                Ok(entries) => entries,
                Err(source) if prefix.is_empty() => return Err(FileError::at("read the folder", root)(source)),
                Err(source) => {
                    unreadable.push((prefix.trim_end_matches('/').to_owned(), source.to_string()));
                    continue;
                }
            };
            for entry in entries {
                let (name, path) = (entry.file_name(), entry.path());
                let key = format!("{prefix}{}", name.to_string_lossy());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        if ledger.is_none() || fs::canonicalize(&path).ok() != ledger {
                            folders.push((key + "/", path));
                        }
                    }
                    _ if name.to_str().is_none() => unreadable.push((key, "its name is no UTF-8".to_owned())),
                    Ok(kind) => found.push((key, path, kind.is_symlink())),
                    Err(source) => unreadable.push((key, source.to_string())),
                }
            }
        }
        let read = |(key, path, is_link): (String, PathBuf, bool)| match content(&path, is_link) {
            Ok(content) => Ok((key, content)),
            Err(source) => Err((key, source.to_string())),
        };
        let (failed, mut items): (Vec<_>, Vec<_>) = found.into_par_iter().map(read).partition_map(Into::into);
        unreadable.extend(failed);
        items.par_sort_unstable();
        unreadable.sort_unstable();
        Ok(Self { items, unreadable })
    }

    /// The rows of the table at `path`, by their number, counted from 1: the head of the table is row 1 if it has one.
    ///
    /// # Errors
    /// When it cannot be read, or is no text.
    pub fn table(path: &Path) -> Result<Self, FileError> {
        let text = fs::read(path).map_err(FileError::at("read", path))?;
        if text.contains(&0) {
            let message = "it is no text, and so no table; files are recorded as samples of their folder";
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, message);
            return Err(FileError::at("read the rows of", path)(error));
        }
        let content = |(at, row): (usize, &[u8])| ((at + 1).to_string(), of(b"row", row));
        Ok(Self::new(rows(&text).into_iter().enumerate().map(content)))
    }

    /// The samples of a data set, by their id: pixels, shape, label and source.
    pub fn dataset(data: &Dataset) -> Self {
        let shape = data.shape();
        let sample = |at: usize| {
            let numbers = [shape.channels, shape.height, shape.width, data.label(at).into(), data.source(at).0.into()];
            let message = Message::new(Tag::Content).bytes(b"sample");
            let message = numbers.into_iter().fold(message, |message, number| message.number(number as u64));
            (data.id(at).0.to_string(), message.bytes(data.image(at)).finish())
        };
        let mut items: Vec<_> = (0..data.len()).into_par_iter().map(sample).collect();
        items.par_sort_unstable();
        Self { items, unreadable: Vec::new() }
    }
}

/// The content of a file.
pub fn of_file(bytes: &[u8]) -> Digest {
    of(b"file", bytes)
}

fn of(kind: &[u8], bytes: &[u8]) -> Digest {
    Message::new(Tag::Content).bytes(kind).bytes(bytes).finish()
}

fn content(path: &Path, is_link: bool) -> std::io::Result<Digest> {
    if !is_link {
        return Ok(of_file(&fs::read(path)?));
    }
    let target = fs::read_link(path)?;
    let behind = if path.is_file() { Some(of_file(&fs::read(path)?)) } else { None };
    let target = target.as_os_str().as_encoded_bytes();
    Ok(Message::new(Tag::Content).bytes(b"link").bytes(target).optional(behind.as_ref()).finish())
}

/// The rows of a table, each with its end. A line break between quotation marks is part of the row.
fn rows(text: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    let ends = |byte: &u8| {
        quoted ^= *byte == b'"';
        *byte == b'\n' && !quoted
    };
    text.split_inclusive(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{ChangeSet, Role, Shape, SourceId, Stage};

    #[test]
    fn a_row_ends_at_a_line_break_outside_quotation_marks() {
        let text = b"a,b\n\"x\ny\",\"\"\"\n\"\"\"\nlast";
        assert_eq!(rows(text), [&b"a,b\n"[..], b"\"x\ny\",\"\"\"\n\"\"\"\n", b"last"]);
        assert!(rows(b"").is_empty());
    }

    #[test]
    fn what_is_no_text_is_no_table() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
        let message = Scan::table(file.path()).unwrap_err().to_string();
        assert!(message.contains("it is no text, and so no table"), "{message}");
    }

    #[test]
    fn a_folder_is_its_files_without_the_ledger() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("b/2.png", b"two");
        write("a.png", b"one");
        write(".hidden", b"");
        write("notes/ledger.jsonl", b"the ledger");
        let scan = Scan::folder(root.path(), &root.path().join("notes")).unwrap();
        let expected = [(".hidden", &b""[..]), ("a.png", b"one"), ("b/2.png", b"two")];
        assert_eq!(scan.items, expected.map(|(key, bytes)| (key.to_owned(), of_file(bytes))));
        assert_eq!(Scan::folder(root.path(), Path::new("nowhere")).unwrap().items.len(), 4);
        let error = Scan::folder(&root.path().join("none"), Path::new("")).unwrap_err().to_string();
        assert!(error.starts_with("failed to read the folder `"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_the_file_and_changes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        fs::write(place("file"), b"one").unwrap();
        std::os::unix::fs::symlink("file", place("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", place("dead")).unwrap();
        let scan = || Scan::folder(root.path(), Path::new("")).unwrap();
        let [first, second] = [scan(), {
            fs::write(place("file"), b"two").unwrap();
            scan()
        }];
        assert!(first.unreadable.is_empty());
        let changed: Vec<bool> = first.items.iter().zip(&second.items).map(|(one, two)| one != two).collect();
        assert_eq!(changed, [false, true, true], "dead, file, link");
        assert_ne!(first.items[1].1, first.items[2].1);
    }

    #[test]
    fn every_edit_of_a_data_set_changes_the_content_of_its_sample() {
        let shape = Shape { channels: 1, height: 1, width: 2 };
        let classes: Vec<String> = ["a", "b"].map(String::from).into();
        let data = Dataset::new("toy", shape, classes, vec![0, 1, 2, 3, 4, 5], &[0, 1, 0]).unwrap();
        let mut changes = ChangeSet::new("test", Role::Supplier, Stage::Collect);
        changes.relabel(&data, 0, 1);
        changes.replace(&data, 1, vec![2, 4]);
        changes.remove(&data, 2);
        changes.insert(&data, 0, SourceId(1), vec![4, 5]);
        let (before, after) = (Scan::dataset(&data), Scan::dataset(&changes.apply(&data).unwrap()));
        let keys = |scan: &Scan| scan.items.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!((keys(&before).join(" "), keys(&after).join(" ")), ("0 1 2".to_owned(), "0 1 3".to_owned()));
        assert!(before.items.iter().zip(&after.items).all(|(one, two)| one.1 != two.1));
    }
}
