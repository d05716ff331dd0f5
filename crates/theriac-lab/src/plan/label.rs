//! Names for people: of methods, of filters, of steps.

use theriac_core::record::{MethodRecord, filter_key};
use theriac_core::{Param, Value};

/// The name of `method` with the parameters that are not at their default: `badnets rate=0.05`.
pub(crate) fn brief(method: &MethodRecord, params: &[Param]) -> String {
    let default = |key: &str| params.iter().find(|param| param.name == key).map(|param| (param.default)());
    // Declared defaults may be written `1` where `1.0` is meant, hence the comparison as numbers.
    let same = |one: &Value, two: &Value| one == two || (one.is_number() && one.as_f64() == two.as_f64());
    method.named(|key, value| default(key).is_none_or(|default| !same(value, &default)))
}

/// How controls name the filters that they match, in the order of `filters`.
pub(crate) fn filter_labels(filters: &[&MethodRecord]) -> Vec<String> {
    filters.iter().map(|filter| filter_key(filter, filters)).collect()
}
