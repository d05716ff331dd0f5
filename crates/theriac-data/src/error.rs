//! Everything that can go wrong between a data set's name and its images, one variant a cause.

use std::io;
use std::path::PathBuf;

use theriac_core::dataset::DatasetError;
use theriac_core::edit::EditError;
use theriac_core::{ParamError, Shape};

/// Why a data set could not be found, read, fetched or written. Messages name the file, the byte where it applies, what
/// was expected and found, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No data set has this name.
    #[error("failed to find data set `{name}`: {hint}")]
    UnknownDataset {
        /// The name asked for.
        name: String,
        /// The nearest name, or all names.
        hint: String,
    },
    /// Parameters are unknown or out of range.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Params(Vec<ParamError>),
    /// More samples are asked for than there are.
    #[error(
        "failed to accept `{key}`: {asked} samples asked for, but data set `{dataset}` has {available}; \
         ask for at most {available}, or 0 for all"
    )]
    TooMany {
        /// The data set.
        dataset: String,
        /// `train` or `test`.
        key: &'static str,
        /// Samples asked for.
        asked: usize,
        /// Samples there are.
        available: usize,
    },
    /// A file is nowhere to be found.
    #[error(
        "failed to find `{file}` of data set `{dataset}`: put it into `{}` (it comes from {url}), or run \
         `theriac data fetch {dataset}`",
        folder.display()
    )]
    Missing {
        /// The data set.
        dataset: String,
        /// The canonical name of the file.
        file: String,
        /// Where it is expected first.
        folder: PathBuf,
        /// Where it is published.
        url: String,
    },
    /// A file has the right name and another content.
    #[error(
        "failed to accept `{}` as a file of data set `{dataset}`: its content has SHA-256 {found}, \
         expected {expected}; remove it and run `theriac data fetch {dataset}`, or load your own images with data set `folder`",
        path.display()
    )]
    Content {
        /// The data set.
        dataset: String,
        /// The file.
        path: PathBuf,
        /// The SHA-256 of the published content.
        expected: String,
        /// The SHA-256 of the content found.
        found: String,
    },
    /// A file or folder cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A gzip stream is cut or damaged.
    #[error(
        "failed to decompress `{}`: the gzip stream breaks at byte {offset} of {length}, \
         after {decoded} decompressed bytes; the file is incomplete or damaged, fetch or copy it again",
        path.display()
    )]
    Gzip {
        /// The file.
        path: PathBuf,
        /// Where in the compressed file.
        offset: u64,
        /// Bytes of the compressed file.
        length: u64,
        /// Bytes that were decompressed before.
        decoded: u64,
        /// What the decompressor says.
        source: io::Error,
    },
    /// A tar archive cannot be read.
    #[error(
        "failed to read the archive `{}` after {unpacked} of its files; it is incomplete or damaged, \
         fetch or copy it again",
        path.display()
    )]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Files that were read before.
        unpacked: usize,
        /// What the reader says.
        source: io::Error,
    },
    /// An archive lacks a file.
    #[error("failed to find `{member}` in the archive `{}`; fetch or copy it again", path.display())]
    NotInArchive {
        /// The archive.
        path: PathBuf,
        /// The file that is not in it.
        member: String,
    },
    /// A file does not start as its format demands.
    #[error(
        "failed to read `{}`: byte 0 starts with 0x{found:08x}, expected 0x{expected:08x} ({content}); \
         check that the file is what its name says",
        path.display()
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        content: &'static str,
        /// The number that marks the format.
        expected: u32,
        /// The number found.
        found: u32,
    },
    /// A header declares images without pixels, or too many to count.
    #[error(
        "failed to read `{}`: the header at byte {offset} declares {found}, expected images of at least one pixel that \
         fit into memory; check that the file is what its name says",
        path.display()
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// Where the sizes start.
        offset: u64,
        /// The declared sizes.
        found: String,
    },
    /// A file ends too early.
    #[error(
        "failed to read `{}`: the data end at byte {found}, expected {expected} bytes ({reason}); \
         the file is incomplete, fetch or copy it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
        /// Where the expected number comes from.
        reason: String,
    },
    /// Something follows where a file should end.
    #[error(
        "failed to read `{}`: {extra} bytes follow at byte {offset}, where the data should end; \
         fetch or copy the file again",
        path.display()
    )]
    Trailing {
        /// The file.
        path: PathBuf,
        /// Where the file should end.
        offset: u64,
        /// How many bytes follow.
        extra: u64,
    },
    /// An image file and a label file do not belong together.
    #[error(
        "failed to pair `{}` with `{}`: {images} images, but {labels} labels; check that both belong to the same part",
        images_path.display(),
        labels_path.display()
    )]
    CountMismatch {
        /// The file with the images.
        images_path: PathBuf,
        /// Number of images.
        images: usize,
        /// The file with the labels.
        labels_path: PathBuf,
        /// Number of labels.
        labels: usize,
    },
    /// A label names no class.
    #[error(
        "failed to read `{}`: byte {offset} holds label {found}, expected a number below {classes}; the file is \
         damaged or belongs to another data set",
        path.display()
    )]
    LabelRange {
        /// The file.
        path: PathBuf,
        /// Where the label stands.
        offset: u64,
        /// The label.
        found: u8,
        /// Number of classes.
        classes: usize,
    },
    /// A folder of images has no class folder.
    #[error(
        "failed to find a class in `{}`: expected one folder a class with PNG images in it, found no folder",
        path.display()
    )]
    NoClass {
        /// The folder.
        path: PathBuf,
    },
    /// A folder has a training part and no test part, or the other way round.
    #[error(
        "failed to load `{}`: it has the folder `{present}` with folders in it, but no folder `{missing}`; make `{}`, or \
         name `{}` as path",
        path.display(), path.join(missing).display(), path.join(present).display()
    )]
    HalfSplit {
        /// The folder.
        path: PathBuf,
        /// The part that is there.
        present: &'static str,
        /// The part that is not.
        missing: &'static str,
    },
    /// A folder stands beside the training and the test part.
    #[error(
        "failed to accept `{}`: beside the folders `train` and `test` its images would be left out; move them into one of \
         the two, or the folder elsewhere",
        path.display()
    )]
    BesideParts {
        /// The third folder.
        path: PathBuf,
    },
    /// A folder has more classes than there are labels.
    #[error("failed to load `{}`: expected at most 65,536 class folders, found {found}", path.display())]
    TooManyClasses {
        /// The folder.
        path: PathBuf,
        /// Class folders found.
        found: usize,
    },
    /// A class folder has too few images.
    #[error(
        "failed to load class `{}`: expected at least {expected} PNG images, found {found}; \
         add images or remove the folder",
        path.display()
    )]
    TooFewImages {
        /// The class folder.
        path: PathBuf,
        /// Images needed: one of each class for training and one for the test.
        expected: usize,
        /// Images found.
        found: usize,
    },
    /// Training and test images do not have the same classes.
    #[error(
        "failed to pair `{}` with `{}`: class `{class}` is only in one of them; make a folder for it in both",
        train.display(),
        test.display()
    )]
    ClassesDiffer {
        /// The folder with training images.
        train: PathBuf,
        /// The folder with test images.
        test: PathBuf,
        /// The first class that is only in one of them.
        class: String,
    },
    /// A class folder holds something that is no PNG image.
    #[error(
        "failed to accept `{}`: expected only files that end in .png in a class folder; convert or remove it",
        path.display()
    )]
    NotAnImage {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file is called `.png` and is none, or is damaged.
    #[error("failed to read `{}` as a PNG image; save it as PNG again, or remove it", path.display())]
    Png {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: png::DecodingError,
    },
    /// An image is neither gray nor RGB with 8 bits.
    #[error(
        "failed to accept `{}`: expected gray or RGB with 8 bits a channel and no transparency, found {found}; \
         convert it",
        path.display()
    )]
    PixelFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// Images differ in size or number of channels.
    #[error(
        "failed to accept `{}`: it has {}x{} pixels in {} channels, expected {}x{} in {} as in `{}`; \
         bring all images to one size",
        path.display(), found.height, found.width, found.channels,
        expected.height, expected.width, expected.channels, first.display()
    )]
    ImageSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: Shape,
        /// The size of the first image.
        expected: Shape,
        /// The first image.
        first: PathBuf,
    },
    /// No mirror delivered a file.
    #[error(
        "failed to fetch `{file}`:{}\nwithout a connection, get it from {url} elsewhere and put it into `{}`",
        attempts.iter().map(|attempt| format!("\n  {attempt}")).collect::<String>(),
        folder.display()
    )]
    Fetch {
        /// The canonical name of the file.
        file: String,
        /// What happened at each mirror.
        attempts: Vec<String>,
        /// The first mirror's address of the file.
        url: String,
        /// Where the file belongs.
        folder: PathBuf,
    },
    /// An export would mix with what is there.
    #[error("failed to export into `{}`: the folder is not empty; name a new one", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The changes do not lead from the base to the poisoned data.
    #[error(
        "failed to export: the change set does not lead from the base data to the poisoned data; \
         pass the three that belong together"
    )]
    ChangesDiffer,
    /// Images cannot be written as PNG.
    #[error("failed to export: PNG images have 1 or 3 channels, these have {channels}")]
    Channels {
        /// Channels of the data set.
        channels: usize,
    },
    /// An image cannot be encoded.
    #[error("failed to encode `{}` as PNG", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder says.
        source: png::EncodingError,
    },
    /// A change set does not fit.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Pixels and labels do not fit together.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl From<Vec<ParamError>> for DataError {
    fn from(errors: Vec<ParamError>) -> Self {
        Self::Params(errors)
    }
}

impl From<ParamError> for DataError {
    fn from(error: ParamError) -> Self {
        Self::Params(vec![error])
    }
}
