//! Keys and signatures (Ed25519), and the files in which secret keys lie.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use theriac_core::Digest;
use theriac_core::files::FileError;

use crate::hex::{self, serde_as_text};

/// What is signed: these bytes, then the entry's digest. A signature made for something else is none for an entry.
const CONTEXT: &[u8] = b"theriac ledger entry v1\0";
const TITLE: &str = "theriac secret key, version 1, Ed25519. Whoever has this file can sign as its owner.";

/// The public half of a key pair: who it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// A signature of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// The secret half of a key pair, with the name of its owner.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error(
        "failed to find the secret key `{}`. Name another file with --key or THERIAC_LEDGER_KEY. If the key is lost, make a new one \
         (`theriac ledger key NAME`) and let an engineer or auditor whose key the ledger knows admit it (`theriac ledger admit`); then \
         they retire the lost one (`theriac ledger retire`)", .0.display())]
    Lost(PathBuf),
    /// The file exists.
    #[error("failed to write the secret key `{}`: the file exists, and a key is never overwritten; name another file with --out", .0.display())]
    Exists(PathBuf),
    /// The file is no secret key.
    #[error("failed to read the secret key `{}`: {why}. Its first line should be `{TITLE}`", path.display())]
    NoKey {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The file system refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is no public key.
    #[error("failed to read a public key: expected 64 hexadecimal digits in lowercase, found `{0}`")]
    NoPublicKey(String),
    /// The text is no signature.
    #[error("failed to read a signature: expected 128 hexadecimal digits in lowercase, found `{0}`")]
    NoSignature(String),
}

impl PublicKey {
    /// Whether `signature` is one of this key for the entry with this digest.
    pub fn verifies(&self, entry: &Digest, signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        // Strict: no second form of a signature, and no key of small order under which many messages have the same one.
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(&message(entry), &signature).is_ok())
    }

    /// The first 16 digits, for people.
    pub fn fingerprint(&self) -> String {
        hex::write(&self.0[..8])
    }
}

impl SecretKey {
    /// A key of `name` from 32 random bytes, which nobody else may know.
    pub fn new(name: impl Into<String>, random: [u8; 32]) -> Self {
        Self { name: name.into(), key: SigningKey::from_bytes(&random) }
    }

    /// The owner's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// Signs the entry with this digest.
    pub fn sign(&self, entry: &Digest) -> Signature {
        Signature(self.key.sign(&message(entry)).to_bytes())
    }

    /// Writes the key to a new file that only its owner may read.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
            _ => FileError::at("write the secret key", path)(error).into(),
        })?;
        let secret = hex::write(self.key.as_bytes());
        let text = format!("{TITLE}\nname {}\npublic {}\nsecret {secret}\n", self.name, self.public());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(FileError::at("write", path))?;
        Ok(())
    }

    /// Reads what [`SecretKey::write`] wrote.
    ///
    /// # Errors
    /// When there is no such file, or it is no secret key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => KeyError::Lost(path.to_owned()),
            std::io::ErrorKind::InvalidData => KeyError::NoKey { path: path.to_owned(), why: "it is no text" },
            _ => FileError::at("read the secret key", path)(error).into(),
        })?;
        let no_key = |why| KeyError::NoKey { path: path.to_owned(), why };
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(no_key("it is something else"));
        }
        let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let (Some(name), Some(public), Some(secret)) = (field("name"), field("public"), field("secret")) else {
            return Err(no_key("a line is missing"));
        };
        let key = Self::new(name, hex::read(secret).ok_or_else(|| no_key("the secret is not 64 hexadecimal digits"))?);
        match key.public().to_string() == public {
            true => Ok(key),
            false => Err(no_key("its secret and its public half do not belong together")),
        }
    }
}

fn message(entry: &Digest) -> Vec<u8> {
    [CONTEXT, entry.as_bytes()].concat()
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, {})", self.name, self.public().fingerprint())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::write(&self.0))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::write(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        hex::read(text).map(Self).ok_or_else(|| KeyError::NoPublicKey(text.to_owned()))
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        hex::read(text).map(Self).ok_or_else(|| KeyError::NoSignature(text.to_owned()))
    }
}

serde_as_text!(PublicKey);
serde_as_text!(Signature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_entry_and_its_key_alone() {
        let [ada, bob] = [SecretKey::new("ada", [1; 32]), SecretKey::new("bob", [2; 32])];
        let entry = Digest::of(b"entry");
        let signature = ada.sign(&entry);
        assert!(ada.public().verifies(&entry, &signature));
        assert!(!bob.public().verifies(&entry, &signature));
        assert!(!ada.public().verifies(&Digest::of(b"other"), &signature));
        for at in 0..64 {
            let mut other = signature;
            other.0[at] ^= 1;
            assert!(!ada.public().verifies(&entry, &other), "byte {at}");
        }
    }

    #[test]
    fn a_key_file_is_read_again_and_never_overwritten_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.key");
        let key = SecretKey::new("ada", [7; 32]);
        key.write(&path).unwrap();
        let again = SecretKey::read(&path).unwrap();
        assert_eq!((again.name(), again.public()), ("ada", key.public()));
        assert!(matches!(SecretKey::new("bob", [8; 32]).write(&path), Err(KeyError::Exists(_))));
        assert_eq!(SecretKey::read(&path).unwrap().name(), "ada");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!format!("{key:?}").contains(&"07".repeat(8)));
    }

    #[test]
    fn a_missing_or_damaged_key_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.key");
        assert!(SecretKey::read(&path).unwrap_err().to_string().contains("theriac ledger admit"));
        SecretKey::new("ada", [7; 32]).write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for (damaged, why) in [
            (text.replace("version 1", "version 2"), "it is something else"),
            (text.replace("secret 07", "secret 08"), "do not belong together"),
            (text.replace("secret 07", "secret x7"), "64 hexadecimal digits"),
            (text[..text.len() - 80].to_owned(), "a line is missing"),
        ] {
            fs::write(&path, damaged).unwrap();
            let message = SecretKey::read(&path).unwrap_err().to_string();
            assert!(message.contains(why), "{why}: {message}");
        }
    }
}
