//! A scratch folder, and the program run in it as a person would run it.
#![allow(dead_code, reason = "each test program uses its part of this")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A study that runs in a moment: one small network, one attack, a filter.
pub const SMALL: &str = r#"name = "small"
seeds = 1

[data]
name = "mnist-10k"
train = 300
test = 150

[model]
name = "mlp"
hidden = 16

[train]
epochs = 1

[[experiment]]
name = "backdoor"

[[experiment.attack]]
name = "badnets"
rate = 0.1
target = 0

[[experiment.defense]]
name = "deep-knn"
"#;

/// `text` with each `(old, new)` replaced; what is to be replaced must be there.
pub fn with(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "`{old}` is not in the config:\n{text}");
        text.replacen(old, new, 1)
    })
}

/// A temporary folder, which is the current directory of what runs in it.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A desk with the config `study.toml` on it.
    pub fn with_config(text: &str) -> Self {
        let desk = Self::new();
        desk.write("study.toml", text);
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_theriac"));
        command.args(arguments).current_dir(self.folder.path());
        command.env_remove("THERIAC_DATA").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended = Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }

    /// Runs what has to succeed.
    pub fn succeed(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}\n{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// Every file below `name` with its content; nothing if there is no such folder.
    pub fn files(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(name), &mut |path| drop(files.insert(path.to_owned(), std::fs::read(path).unwrap())));
        files
    }

    /// The paths below `name` that end in `ending`.
    pub fn ending_in(&self, name: &str, ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.path(name), &mut |path| found.push(path.to_owned()));
        found.retain(|path| path.to_string_lossy().ends_with(ending));
        found
    }
}

impl Ended {
    /// The exit code and telling parts of the message.
    #[track_caller]
    pub fn refuses(&self, code: i32, says: &[&str]) {
        let Self { stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
        for part in says {
            assert!(stderr.contains(part), "`{part}` is not in the message:\n{stderr}");
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

fn collect(folder: &Path, take: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, take) } else { take(&path) }
    }
}

/// The steps of one kind in a manifest: what each left, by address.
pub fn outputs(manifest: &Value, kind: &str) -> BTreeMap<String, String> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    let steps = manifest["steps"].as_array().unwrap().iter().filter(|step| step["kind"] == kind);
    steps.map(|step| (text(step, "address"), text(step, "output"))).collect()
}
