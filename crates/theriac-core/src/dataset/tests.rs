use super::*;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

const SHAPE: Shape = Shape { channels: 1, height: 1, width: 2 };

#[test]
fn images_and_labels_are_read_back() {
    let data = Dataset::new("toy", SHAPE, names(2), vec![1, 2, 3, 4], &[0, 1]).unwrap();
    assert_eq!((data.len(), data.image(1), data.label(1)), (2, &[3, 4][..], 1));
    assert_eq!(data.class_counts(), [1, 1]);
    assert_eq!(data.of_class(1), [1]);
}

#[test]
fn wrong_sizes_and_labels_are_refused() {
    let error = Dataset::new("toy", SHAPE, names(2), vec![1, 2, 3], &[0, 1]).unwrap_err();
    assert_eq!(error, DatasetError::Pixels { name: "toy".into(), labels: 2, expected: 4, found: 3 });
    let error = Dataset::new("toy", SHAPE, names(2), vec![1, 2, 3, 4], &[0, 2]).unwrap_err();
    assert_eq!(error, DatasetError::Label { name: "toy".into(), index: 1, label: 2, classes: 2 });
    let error = Dataset::new("toy", SHAPE, names(0), vec![1, 2], &[0]).unwrap_err().to_string();
    assert!(error.ends_with("sample 0 has label 0, but there are 0 classes, counted from 0"), "{error}");
    let shape = Shape { height: 0, ..SHAPE };
    let error = Dataset::new("toy", shape, names(2), vec![], &[0]).unwrap_err();
    assert_eq!(error, DatasetError::Empty { name: "toy".into(), shape });
    assert!(error.to_string().ends_with("images of 0x2 pixels in 1 channels are empty"), "{error}");
}

#[test]
fn other_pixels_leave_ids_and_labels() {
    let data = Dataset::new("toy", SHAPE, names(2), vec![1, 2, 3, 4], &[0, 1]).unwrap().select(&[1, 0, 1]);
    let other = data.with_pixels(vec![9, 8, 7, 6, 5, 4]);
    assert_eq!((other.image(0), other.image(2), data.image(0)), (&[9, 8][..], &[5, 4][..], &[3, 4][..]));
    let ids = |data: &Dataset| (0..data.len()).map(|index| data.id(index)).collect::<Vec<_>>();
    assert_eq!((ids(&other), other.labels(), other.next_id()), (ids(&data), data.labels(), data.next_id()));
}

#[test]
fn the_digest_sees_labels_pixels_and_order() {
    let data = Dataset::new("toy", SHAPE, names(2), vec![1, 2, 3, 4], &[0, 1]).unwrap();
    let swapped = data.select(&[1, 0]);
    let other = Dataset::new("toy", SHAPE, names(2), vec![1, 2, 3, 4], &[0, 0]).unwrap();
    assert_ne!(data.digest(), swapped.digest());
    assert_ne!(data.digest(), other.digest());
    assert_eq!(data.digest(), swapped.select(&[1, 0]).digest());
}

#[test]
fn sources_are_told_apart() {
    let shape = Shape { channels: 1, height: 1, width: 1 };
    let data = Dataset::new("toy", shape, names(2), vec![1, 2, 3], &[0, 1, 0]).unwrap();
    let told = data.with_sources(&[SourceId(4), SourceId(2), SourceId(4)]);
    assert_eq!((data.sources(), told.sources()), (vec![SourceId(0)], vec![SourceId(2), SourceId(4)]));
    assert_eq!((told.of_source(SourceId(4)), told.of_source(SourceId(3))), (vec![0, 2], vec![]));
    assert_ne!(data.digest(), told.digest());
}
