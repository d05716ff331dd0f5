use super::*;

#[test]
fn filters_are_told_apart_by_what_differs_among_namesakes() {
    let record = |name: &str, params: &str| MethodRecord {
        name: name.to_owned(),
        params: serde_json::from_str(params).unwrap(),
    };
    let (one, two) = (record("knn", r#"{"k": 5, "mode": "a"}"#), record("knn", r#"{"k": 9, "mode": "a"}"#));
    let other = record("spectral", r#"{"removed": 1.5}"#);
    assert_eq!(filter_key(&one, &[&one, &other]), "knn");
    assert_eq!(filter_key(&one, &[&one, &two, &other]), "knn k=5");
    assert_eq!(filter_key(&other, &[&one, &two, &other]), "spectral");
    assert_eq!(one.named(|key, _| key == "mode"), "knn mode=a");
}
