//! Bringing published files onto this machine: mirrors in order, resumed where a connection broke, checked before they
//! count.
//!
//! A file grows as `NAME.part` and gets its name only after its checksum holds. What fails the checksum is not kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use ureq::typestate::AgentScope;

use crate::error::DataError;
use crate::files::{self, RemoteFile};
use crate::places::Places;
use crate::registry::find;

/// How often a mirror is asked to go on after it delivered a part of a file.
const ROUNDS: usize = 5;
/// How long to wait for a connection, and for the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Its canonical name.
    pub file: &'a str,
    /// The mirror's address.
    pub url: &'a str,
    /// Bytes on this machine.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Fetches what a data set lacks into its folder in the first of the `places`, and returns where its files are. Files
/// that are already here with the published content are left alone. Data sets without published files need nothing.
///
/// # Errors
/// When no data set has this name, no mirror delivers the published file, or the folder cannot be written. A file that
/// broke off is kept as `.part` and continued by the next call.
pub fn fetch(name: &str, places: &Places, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Vec<PathBuf>, DataError> {
    let entry = find(name)?;
    fetch_files(&settings().build().into(), name, entry.files, places, progress)
}

fn settings() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .user_agent(concat!("theriac/", env!("CARGO_PKG_VERSION")))
}

fn fetch_files(
    agent: &Agent,
    dataset: &str,
    files: &[RemoteFile],
    places: &Places,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<PathBuf>, DataError> {
    let fetch = |file: &RemoteFile| {
        let found = files::status(dataset, file, places);
        match found.path.as_ref().filter(|_| found.is_ok()) {
            Some(path) => Ok(path.clone()),
            None => fetch_file(agent, file, &places.target(dataset), progress),
        }
    };
    files.iter().map(fetch).collect()
}

fn fetch_file(
    agent: &Agent,
    file: &RemoteFile,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, DataError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| DataError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let (path, part) = (folder.join(file.name), folder.join(format!("{}.part", file.name)));
    let mut attempts = Vec::new();
    for url in file.urls {
        for _ in 0..ROUNDS {
            let start = fs::metadata(&part).map_or(0, |metadata| metadata.len());
            let outcome = download(agent, file, url, &part, progress);
            let go_on = match outcome {
                Ok(()) if files::is_published(&part, file).map_err(failed(&part))? => {
                    fs::rename(&part, &path).map_err(failed(&path))?;
                    return Ok(path);
                }
                Ok(()) => {
                    fs::remove_file(&part).map_err(failed(&part))?;
                    attempts.push(format!("{url}: the checksum differs from the published one; nothing was kept"));
                    // The fault may lie in what an earlier call or another mirror left.
                    start > 0
                }
                Err(Trouble::Local(source)) => return Err(failed(&part)(source)),
                Err(Trouble::Remote { message, go_on }) => {
                    attempts.push(format!("{url}: {message}"));
                    go_on
                }
            };
            if !go_on {
                break;
            }
        }
    }
    let (name, url) = (file.name.to_owned(), file.urls.first().copied().unwrap_or("its publisher").to_owned());
    Err(DataError::Fetch { file: name, attempts, url, folder: folder.to_path_buf() })
}

/// Why a download ended early.
enum Trouble {
    /// This machine is at fault: no other mirror will help.
    Local(io::Error),
    /// The mirror or the way to it is at fault. `go_on`: asking it again may help.
    Remote { message: String, go_on: bool },
}

/// Downloads what `part` lacks of a file. On success `part` is complete, but not checked.
fn download(
    agent: &Agent,
    file: &RemoteFile,
    url: &str,
    part: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Trouble> {
    let mut done = fs::metadata(part).map_or(0, |metadata| metadata.len());
    if done >= file.size {
        return Ok(());
    }
    // Compression on the way would change the bytes that the checksum and the range are about.
    let mut request = agent.get(url).header(ACCEPT_ENCODING, "identity");
    if done > 0 {
        request = request.header(RANGE, format!("bytes={done}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(ureq::Error::StatusCode(416)) => {
            fs::remove_file(part).map_err(Trouble::Local)?;
            return Err(Trouble::Remote { message: "the mirror cannot continue the file".to_owned(), go_on: true });
        }
        Err(error) => return Err(Trouble::Remote { message: error.to_string(), go_on: false }),
    };
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let continues = range.is_some_and(|range| range.starts_with(&format!("bytes {done}-")));
    let mut output = if response.status() == 206 && continues {
        OpenOptions::new().append(true).open(part)
    } else {
        // The mirror starts from the beginning, and so do we.
        done = 0;
        File::create(part)
    }
    .map_err(Trouble::Local)?;
    let before = done;
    // One byte more than expected is enough to fail the checksum.
    let mut body = response.into_body().into_reader().take(file.size - done + 1);
    let mut buffer = vec![0; 1 << 16];
    let broke = loop {
        progress(Progress { file: file.name, url, done, total: file.size });
        match body.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => {
                output.write_all(&buffer[..count]).map_err(Trouble::Local)?;
                done += count as u64;
            }
            Err(error) => break Some(error),
        }
    };
    output.sync_all().map_err(Trouble::Local)?;
    if done >= file.size {
        return Ok(());
    }
    let reason = broke.map_or_else(String::new, |error| format!(" ({error})"));
    let message = format!("the connection broke at byte {done} of {}{reason}", file.size);
    Err(Trouble::Remote { message, go_on: done > before })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::remote;
    use crate::readers::gzip::tests::gzip;
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    const CONTENT: &[u8] = b"the ancient antidote to poisons";

    type Log = Arc<Mutex<Vec<String>>>;

    /// A mirror on this machine: each request gets the next answer, and is written down.
    fn serve(answers: Vec<Vec<u8>>) -> (String, Log) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.gz", listener.local_addr().unwrap());
        let log = Log::default();
        let written = log.clone();
        std::thread::spawn(move || {
            for (answer, stream) in answers.into_iter().zip(listener.incoming()) {
                let mut stream: TcpStream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                written.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
                stream.write_all(&answer).unwrap();
            }
        });
        (url, log)
    }

    /// An answer that declares `declared` bytes and sends `body`.
    fn answer(status: &str, headers: &str, declared: usize, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {declared}\r\nconnection: close\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    }

    fn whole(bytes: &[u8]) -> Vec<u8> {
        answer("200 OK", "", bytes.len(), bytes)
    }

    fn run(urls: Vec<String>, root: &Path) -> Result<Vec<PathBuf>, DataError> {
        let file = remote("a.gz", urls, &gzip(CONTENT), &[("a", CONTENT)]);
        // A proxy of the environment would not reach this machine's mirrors.
        let agent: Agent = settings().proxy(None).build().into();
        let mut last = 0;
        fetch_files(&agent, "toy", &[file], &Places::only(root), &mut |progress| {
            assert!(progress.done <= progress.total + 1 && progress.file == "a.gz");
            last = progress.done;
        })
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join("toy")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_fetched_once() {
        let root = tempfile::tempdir().unwrap();
        let (url, log) = serve(vec![whole(&gzip(CONTENT))]);
        let paths = run(vec![url.clone()], root.path()).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap(), gzip(CONTENT));
        assert_eq!(names(root.path()), ["a.gz"]);
        assert_eq!(run(vec![url], root.path()).unwrap(), paths);
        let log = log.lock().unwrap();
        assert_eq!(log.len(), 1);
        assert!(log[0].contains("accept-encoding: identity") && !log[0].contains("range:"), "{}", log[0]);
    }

    #[test]
    fn a_broken_connection_is_continued() {
        let root = tempfile::tempdir().unwrap();
        let packed = gzip(CONTENT);
        let range = format!("content-range: bytes 10-{}/{}\r\n", packed.len() - 1, packed.len());
        let (url, log) = serve(vec![
            answer("200 OK", "", packed.len(), &packed[..10]),
            answer("206 Partial Content", &range, packed.len() - 10, &packed[10..]),
        ]);
        let paths = run(vec![url], root.path()).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap(), packed);
        assert!(log.lock().unwrap()[1].contains("range: bytes=10-"));
    }

    #[test]
    fn what_an_earlier_call_left_is_continued() {
        let root = tempfile::tempdir().unwrap();
        let packed = gzip(CONTENT);
        let (url, _) = serve(vec![answer("200 OK", "", packed.len(), &packed[..7])]);
        let error = run(vec![url], root.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("broke at byte 7 of {}", packed.len())), "{error}");
        assert_eq!(names(root.path()), ["a.gz.part"]);
        let range = format!("content-range: bytes 7-{}/{}\r\n", packed.len() - 1, packed.len());
        let (url, log) = serve(vec![answer("206 Partial Content", &range, packed.len() - 7, &packed[7..])]);
        run(vec![url], root.path()).unwrap();
        assert!(log.lock().unwrap()[0].contains("range: bytes=7-"));
        assert_eq!(names(root.path()), ["a.gz"]);
    }

    #[test]
    fn a_mirror_without_ranges_and_a_stale_part_start_over() {
        let packed = gzip(CONTENT);
        let refused = answer("416 Range Not Satisfiable", "", 0, b"");
        let wrong = format!("content-range: bytes 3-{}/{}\r\n", packed.len() - 1, packed.len());
        let wrong = answer("206 Partial Content", &wrong, packed.len() - 3, &packed[3..]);
        let stale = [&[0; 3][..], &packed[3..]].concat();
        for (left, answers) in [
            (&packed[..3], vec![whole(&packed)]),
            (&packed[..3], vec![refused, whole(&packed)]),
            // Stale bytes are continued, fail the checksum, and are fetched anew.
            (&stale[..3], vec![wrong, whole(&packed)]),
            (&stale[..], vec![whole(&packed)]),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("toy")).unwrap();
            fs::write(root.path().join("toy/a.gz.part"), left).unwrap();
            let (url, _) = serve(answers);
            let paths = run(vec![url], root.path()).unwrap();
            assert_eq!(fs::read(&paths[0]).unwrap(), packed);
        }
    }

    #[test]
    fn a_wrong_checksum_keeps_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut poisoned = gzip(CONTENT);
        let last = poisoned.len() - 1;
        poisoned[last] ^= 1;
        for bytes in [poisoned, [gzip(CONTENT), vec![0; 100]].concat()] {
            let (url, _) = serve(vec![whole(&bytes)]);
            let error = run(vec![url], root.path()).unwrap_err().to_string();
            assert!(error.contains("the checksum differs from the published one; nothing was kept"), "{error}");
            assert_eq!(names(root.path()), [""; 0]);
        }
    }

    #[test]
    fn the_second_mirror_is_used_when_the_first_fails() {
        let packed = gzip(CONTENT);
        for failing in [answer("404 Not Found", "", 0, b""), whole(b"<html>please log in</html>"), vec![]] {
            let root = tempfile::tempdir().unwrap();
            let (first, second) = (serve(vec![failing]).0, serve(vec![whole(&packed)]).0);
            run(vec![first, second], root.path()).unwrap();
            assert_eq!(names(root.path()), ["a.gz"]);
        }
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("toy")).unwrap();
        fs::write(root.path().join("toy/a.gz"), "damaged").unwrap();
        let paths = run(vec![serve(vec![whole(&gzip(CONTENT))]).0], root.path()).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap(), gzip(CONTENT));
    }

    #[test]
    fn without_a_connection_the_error_says_which_file_to_put_where() {
        let root = tempfile::tempdir().unwrap();
        // Nobody listens on a port that was just given back.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{address}/a.gz");
        let error = run(vec![url.clone()], root.path()).unwrap_err().to_string();
        let folder = root.path().join("toy");
        assert!(error.starts_with(&format!("failed to fetch `a.gz`:\n  {url}: ")), "{error}");
        let advice = format!("get it from {url} elsewhere and put it into `{}`", folder.display());
        assert!(error.ends_with(&advice), "{error}");
    }

    #[test]
    fn data_sets_without_files_need_no_fetch() {
        let paths = fetch("mnist-10k", &Places::only("nowhere"), &mut |_| panic!("nothing to fetch")).unwrap();
        assert!(paths.is_empty());
        assert!(matches!(fetch("mnst", &Places::only("nowhere"), &mut |_| ()), Err(DataError::UnknownDataset { .. })));
    }
}
