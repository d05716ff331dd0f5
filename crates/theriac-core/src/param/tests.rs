use super::*;

config! {
    /// A toy.
    pub struct Toy {
        /// A fraction.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// A count.
        steps: usize = 5, Range::Whole(1, 10), "steps";
        /// A word.
        mode: String = "all", Range::Choice(&["all", "none"]), "";
        /// A class.
        target: Option<u16> = None::<u16>, Range::Class, "";
        /// A matrix.
        matrix: Option<Vec<Vec<f64>>> = None::<f64>, Range::Transition, "";
    }
}

fn values(json: &str) -> Values {
    serde_json::from_str(json).unwrap()
}

fn message(json: &str) -> String {
    let errors = Toy::from_values(&values(json)).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn defaults_are_filled_in_and_numbers_are_canonical() {
    let resolved = resolve(Toy::PARAMS, &values(r#"{"rate": 1}"#)).unwrap();
    assert_eq!(serde_json::to_string(&resolved["rate"]).unwrap(), "1.0");
    let toy = Toy::from_values(&values(r#"{"matrix": [[0.5, 0.5], [0, 1]]}"#)).unwrap();
    assert_eq!((toy.steps, toy.mode.as_str(), toy.target), (5, "all", None));
    assert_eq!(toy.matrix, Some(vec![vec![0.5, 0.5], vec![0.0, 1.0]]));
    assert_eq!(Toy::default().rate, 0.1);
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = message(r#"{"rte": 1, "rate": -0.1, "steps": 0, "mode": "nome", "target": "x"}"#);
    assert_eq!(
        text,
        "failed to accept `rte`: unknown key; did you mean `rate`?\n\
         failed to accept `rate`: expected a number from 0 to 1, found -0.1\n\
         failed to accept `steps`: expected a whole number from 1 to 10, found 0\n\
         failed to accept `mode`: expected one of \"all\", \"none\", found \"nome\"; did you mean \"none\"?\n\
         failed to accept `target`: expected a class index of the data set, counted from 0, found \"x\""
    );
}

#[test]
fn a_transition_matrix_must_be_square_and_stochastic() {
    assert!(message(r#"{"matrix": [[0.5, 0.4], [0, 1]]}"#).contains("row 0 sums to 0.9"));
    assert!(message(r#"{"matrix": [[1.0], [0, 1]]}"#).contains("row 0 has 1 entries, but there are 2 rows"));
    let text = message(r#"{"matrix": [[1, 0], [0.5, 1.5]]}"#);
    assert!(text.ends_with("`matrix`: row 1: entry 1: expected a number from 0 to 1, found 1.5"), "{text}");
    let text = message(r#"{"matrix": [[1, 0], 3]}"#);
    assert!(text.ends_with("row 1: expected a list of numbers from 0 to 1, found 3"), "{text}");
}

#[test]
fn only_near_misses_are_suggested() {
    assert_eq!(nearest("badnet", ["badnets", "blended"]), Some("badnets"));
    assert_eq!(nearest("zzzzzz", ["badnets", "blended"]), None);
}
