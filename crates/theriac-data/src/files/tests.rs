use super::*;
use crate::readers::gzip::tests::gzip;

fn leak<T: ?Sized>(value: Box<T>) -> &'static T {
    Box::leak(value)
}

/// A file that publishes `packed`, made of `parts`.
pub(crate) fn remote(
    name: &'static str,
    urls: Vec<String>,
    packed: &[u8],
    parts: &[(&'static str, &[u8])],
) -> RemoteFile {
    let part = |&(name, bytes): &(&'static str, &[u8])| Part {
        name,
        sha256: leak(hex(&Sha256::digest(bytes)).into_boxed_str()),
    };
    let urls: Vec<&'static str> = urls.into_iter().map(|url| leak(url.into_boxed_str())).collect();
    RemoteFile {
        name,
        urls: leak(urls.into_boxed_slice()),
        size: packed.len() as u64,
        checksum: Checksum::Sha256(leak(hex(&Sha256::digest(packed)).into_boxed_str())),
        folder: if name.ends_with(".tar.gz") { "inner" } else { "" },
        parts: leak(parts.iter().map(part).collect::<Vec<_>>().into_boxed_slice()),
    }
}

fn single() -> RemoteFile {
    remote("a.gz", vec!["https://example.org/a.gz".into()], &gzip(b"theriac"), &[("a", b"theriac")])
}

#[test]
fn known_checksums_are_reproduced() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "abc").unwrap();
    assert_eq!(hash_file::<Md5>(file.path()).unwrap(), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(
        hash_file::<Sha256>(file.path()).unwrap(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_missing_file_says_where_to_put_it() {
    let root = tempfile::tempdir().unwrap();
    let error = read("toy", &single(), &Places::only(root.path())).unwrap_err().to_string();
    let folder = root.path().join("toy");
    assert_eq!(
        error,
        format!(
            "failed to find `a.gz` of data set `toy`: put it into `{}` (it comes from https://example.org/a.gz), or run \
             `theriac data fetch toy`",
            folder.display()
        )
    );
}

#[test]
fn packed_repacked_and_unpacked_copies_are_all_read() {
    let file = single();
    let repacked = [gzip(b"the"), gzip(b"riac")].concat();
    for (name, bytes, state) in [
        ("a.gz", gzip(b"theriac"), FileState::Published),
        ("a.gz", repacked, FileState::SameContent),
        ("a", b"theriac".to_vec(), FileState::SameContent),
    ] {
        for folder in ["toy", ""] {
            let root = tempfile::tempdir().unwrap();
            let places = Places::only(root.path());
            assert!(!is_present("toy", &file, &places));
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join(name), &bytes).unwrap();
            assert_eq!(read("toy", &file, &places).unwrap()[0].1, b"theriac");
            assert!(is_present("toy", &file, &places));
            let status = status("toy", &file, &places);
            assert_eq!((status.size, &status.state), (bytes.len() as u64, &state));
        }
    }
}

#[test]
fn another_content_is_an_error_in_its_own_folder_and_passed_over_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let places = Places::only(root.path());
    std::fs::write(root.path().join("a.gz"), gzip(b"mithridate")).unwrap();
    assert!(matches!(read("toy", &single(), &places), Err(DataError::Missing { .. })));
    assert!(!is_present("toy", &single(), &places));
    assert_eq!(status("toy", &single(), &places).state, FileState::Missing);
    std::fs::create_dir(root.path().join("toy")).unwrap();
    std::fs::write(root.path().join("toy/a.gz"), gzip(b"mithridate")).unwrap();
    let error = read("toy", &single(), &places).unwrap_err();
    assert!(matches!(&error, DataError::Content { .. }), "{error}");
    assert!(matches!(status("toy", &single(), &places).state, FileState::Different(_)));
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_different() {
    // A superuser may read any file, so the refusal is made up.
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = DataError::Read { path: "toy/a.gz".into(), source };
    assert_eq!(with_source(&error), "failed to read `toy/a.gz`: permission denied");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("toy")).unwrap();
        let path = root.path().join("toy/a.gz");
        std::fs::write(&path, gzip(b"theriac")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(&path).is_err() {
            let found = status("toy", &single(), &Places::only(root.path()));
            assert!(matches!(&found.state, FileState::Unreadable(why) if why.contains("denied")), "{found:?}");
            assert!(!found.is_ok());
        }
    }
}

#[test]
fn an_archive_is_read_packed_and_unpacked() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [("inner/two", "TWO"), ("inner/readme", "no part"), ("inner/one", "ONE")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, bytes.as_bytes()).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let packed = gzip(&tar);
    let parts: [(&'static str, &[u8]); 2] = [("one", b"ONE"), ("two", b"TWO")];
    let file = remote("toy.tar.gz", vec![], &packed, &parts);
    let contents = |parts: Vec<Unpacked>| parts.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();

    let root = tempfile::tempdir().unwrap();
    let places = Places::only(root.path());
    std::fs::create_dir_all(root.path().join("toy/inner")).unwrap();
    let archive = root.path().join("toy/toy.tar.gz");
    std::fs::write(&archive, &packed).unwrap();
    assert_eq!(contents(read("toy", &file, &places).unwrap()), [b"ONE", b"TWO"]);
    let error = |file: &RemoteFile| read("toy", file, &places).unwrap_err();
    let more = remote("toy.tar.gz", vec![], &packed, &[("three", b"")]);
    assert!(matches!(error(&more), DataError::NotInArchive { .. }));
    std::fs::write(&archive, &packed[..packed.len() / 2]).unwrap();
    assert!(matches!(error(&file), DataError::Archive { .. }));
    // Compressed anew, in several members.
    std::fs::write(&archive, tar.chunks(700).flat_map(gzip).collect::<Vec<u8>>()).unwrap();
    assert_eq!(contents(read("toy", &file, &places).unwrap()), [b"ONE", b"TWO"]);
    assert_eq!(status("toy", &file, &places).state, FileState::SameContent);

    std::fs::remove_file(&archive).unwrap();
    std::fs::write(root.path().join("toy/inner/one"), "ONE").unwrap();
    assert!(matches!(error(&file), DataError::Missing { .. }));
    std::fs::write(root.path().join("toy/inner/two"), "TWO").unwrap();
    assert_eq!(contents(read("toy", &file, &places).unwrap()), [b"ONE", b"TWO"]);
}

#[test]
fn data_sets_without_files_have_nothing_to_verify() {
    assert_eq!(verify("mnist-10k", &Places::default()).unwrap(), []);
    assert!(matches!(verify("mnst", &Places::default()), Err(DataError::UnknownDataset { .. })));
}
