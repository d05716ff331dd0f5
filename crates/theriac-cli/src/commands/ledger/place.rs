//! Where the data, their ledger and the author's key are.

use std::path::{Path, PathBuf};

use clap::Args;
use theriac_core::files::FileError;
use theriac_ledger::{Action, Chain, Form, Ledger, Scan, SecretKey};

use crate::commands::{Failure, note};

/// Names the file of the key where no `--key` does.
const KEY: &str = "THERIAC_LEDGER_KEY";

/// Who signs.
#[derive(Args, Debug)]
pub struct Signer {
    /// The file of the author's secret key. Default: $THERIAC_LEDGER_KEY.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Data and their ledger.
pub struct Place {
    pub data: PathBuf,
    pub ledger: PathBuf,
}

impl Place {
    pub fn new(data: PathBuf, ledger: Option<PathBuf>) -> Self {
        let beside = || match data.is_file() {
            true => {
                let mut name = data.file_name().unwrap_or_default().to_owned();
                name.push(".theriac-ledger");
                data.with_file_name(name)
            }
            false => data.join(".theriac-ledger"),
        };
        Self { ledger: ledger.unwrap_or_else(beside), data }
    }

    /// How the data are cut into samples.
    pub fn form(&self) -> Form {
        if self.data.is_file() { Form::Csv } else { Form::Folder }
    }

    pub fn scan(&self) -> Result<Scan, FileError> {
        match self.form() {
            Form::Csv => Scan::table(&self.data),
            Form::Folder | Form::Items => Scan::folder(&self.data, &self.ledger),
        }
    }

    /// The samples, if the ledger is about data of this form.
    pub fn scan_for(&self, chain: &Chain) -> Result<Scan, Failure> {
        let form = chain.entries().first().and_then(|entry| match &entry.header.action {
            Action::Init { form, .. } => Some(*form),
            _ => None,
        });
        let (path, ledger) = (self.data.display(), self.ledger.display());
        let is = match form {
            Some(form) if form != self.form() => form,
            _ => return Ok(self.scan()?),
        };
        let about = match is {
            Form::Folder => "the files of a folder",
            Form::Csv => "the rows of a table",
            Form::Items => "samples that another program cuts out",
        };
        Err(Failure::Usage(format!(
            "the ledger in `{ledger}` is about {about}, and `{path}` is none; name its data with --data"
        )))
    }

    pub fn open(&self) -> Result<Ledger, Failure> {
        Ok(Ledger::open(&self.ledger)?)
    }

    /// The ledger as it is, to look into it.
    pub fn read(&self) -> Result<Chain, Failure> {
        let chain = Ledger::read(&self.ledger)?;
        if let Some(line) = chain.doubted() {
            note(format_args!(
                "warning: the ledger is not sound from line {line} on; `theriac ledger verify` tells more"
            ));
        }
        Ok(chain)
    }
}

impl Signer {
    pub fn key(&self, place: &Place) -> Result<SecretKey, Failure> {
        let named = self.key.clone().or_else(|| std::env::var_os(KEY).map(PathBuf::from));
        let Some(path) = named else {
            let message = "an entry is signed: name the file of your key with --key or THERIAC_LEDGER_KEY; `theriac ledger key NAME` \
                           makes one";
            return Err(Failure::Usage(message.to_owned()));
        };
        let key = SecretKey::read(&path)?;
        #[cfg(unix)]
        if std::fs::metadata(&path)
            .is_ok_and(|file| std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o77 != 0)
        {
            note(format_args!(
                "warning: others may read the secret key `{0}`; `chmod 600 {0}` forbids it",
                path.display()
            ));
        }
        for folder in [&place.data, &place.ledger] {
            if is_in(&path, folder) {
                let (path, folder) = (path.display(), folder.display());
                let message =
                    format!("the secret key `{path}` lies in `{folder}`, where others read; move it elsewhere");
                return Err(Failure::Usage(message));
            }
        }
        Ok(key)
    }
}

fn is_in(path: &Path, folder: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    folder.is_dir() && matches!((whole(path), whole(folder)), (Some(path), Some(folder)) if path.starts_with(&folder))
}
