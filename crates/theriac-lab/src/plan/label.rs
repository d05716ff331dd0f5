//! Names for people: of methods, of filters, of steps.

use theriac_core::{Param, Value, record::MethodRecord};

/// The filters that exist to be compared with: same budget, no insight and full insight.
pub(crate) const RANDOM_FILTER: &str = "random-filter";
pub(crate) const PERFECT_FILTER: &str = "perfect-filter";

/// Whether `name` is a control for vetting filters.
pub(crate) fn is_control_filter(name: &str) -> bool {
    name == RANDOM_FILTER || name == PERFECT_FILTER
}

/// The name of `method` with the parameters that are not at their default: `badnets rate=0.05`.
pub(crate) fn brief(method: &MethodRecord, params: &[Param]) -> String {
    let default = |key: &str| params.iter().find(|param| param.name == key).map(|param| (param.default)());
    // Declared defaults may be written `1` where `1.0` is meant, hence the comparison as numbers.
    let same = |one: &Value, two: &Value| one == two || (one.is_number() && one.as_f64() == two.as_f64());
    let told = |(key, value): &(&String, &Value)| default(key).is_none_or(|default| !same(value, &default));
    named(&method.name, method.params.iter().filter(told))
}

/// How controls name the filters that they match: by name, and where one filter has several parametrisations also by the parameters in
/// which these differ. In the order of `filters`.
pub(crate) fn filter_labels(filters: &[&MethodRecord]) -> Vec<String> {
    let label = |filter: &&MethodRecord| {
        let differs = |(key, value): &(&String, &Value)| {
            let namesakes = filters.iter().filter(|other| other.name == filter.name);
            namesakes.into_iter().any(|other| other.params.get(key.as_str()) != Some(*value))
        };
        named(&filter.name, filter.params.iter().filter(differs))
    };
    filters.iter().map(label).collect()
}

fn named<'a>(name: &str, params: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    params.fold(name.to_owned(), |text, (key, value)| format!("{text} {key}={}", plain(value)))
}
