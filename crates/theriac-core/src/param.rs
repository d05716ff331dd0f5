//! Parameters of methods: declared once, by [`config!`](crate::config), and from there checked, documented and listed.

use std::collections::BTreeMap;

/// A parameter's value as it stands in a config.
pub type Value = serde_json::Value;

/// Parameters by name.
pub type Values = BTreeMap<String, Value>;

/// Which values a parameter accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// A number between the two, both included.
    Number(f64, f64),
    /// A number above the first and at most the second.
    Above(f64, f64),
    /// A whole number between the two, both included.
    Whole(u64, u64),
    /// A class index of the data set.
    Class,
    /// Yes or no.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of numbers between the two.
    Numbers(f64, f64),
    /// A square matrix of probabilities, one row a class, each row summing to 1.
    Transition,
    /// Any text.
    Text,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = |value: f64| match value {
            v if v == f64::INFINITY => "inf".to_owned(),
            v => v.to_string(),
        };
        match self {
            Self::Number(low, high) if *high == f64::INFINITY => write!(f, "a number, at least {}", bound(*low)),
            Self::Above(low, high) if *high == f64::INFINITY => write!(f, "a number above {}", bound(*low)),
            Self::Number(low, high) => write!(f, "a number from {} to {}", bound(*low), bound(*high)),
            Self::Above(low, high) => write!(f, "a number above {} and at most {}", bound(*low), bound(*high)),
            Self::Whole(low, u64::MAX) => write!(f, "a whole number, at least {low}"),
            Self::Whole(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Class => write!(f, "a class index of the data set, counted from 0"),
            Self::Switch => write!(f, "true or false"),
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                write!(f, "one of {}", words.join(", "))
            }
            Self::Numbers(low, high) => write!(f, "a list of numbers from {} to {}", bound(*low), bound(*high)),
            Self::Transition => write!(f, "a square matrix of probabilities, one row a class, each row summing to 1"),
            Self::Text => write!(f, "text"),
        }
    }
}

impl Range {
    /// How deep the lists of a single value are nested: 0 for a number or a word, 1 for a list, 2 for a matrix. A config that nests
    /// one list more means an axis over such values.
    pub fn depth(&self) -> usize {
        match self {
            Self::Numbers(..) => 1,
            Self::Transition => 2,
            _ => 0,
        }
    }

    /// Brings `value` into its canonical form (`1` becomes `1.0` where a number is meant), or says what was expected.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn normalise(&self, value: &Value) -> Result<Value, String> {
        let wrong = || Err(format!("expected {self}, found {value}"));
        match self {
            Self::Number(low, high) => match value.as_f64() {
                Some(number) if number >= *low && number <= *high => Ok(Value::from(number)),
                _ => wrong(),
            },
            Self::Above(low, high) => match value.as_f64() {
                Some(number) if number > *low && number <= *high => Ok(Value::from(number)),
                _ => wrong(),
            },
            Self::Whole(low, high) => match value.as_u64() {
                Some(number) if (*low..=*high).contains(&number) => Ok(value.clone()),
                _ => wrong(),
            },
            Self::Class => match value.as_u64() {
                Some(number) if number <= u64::from(u16::MAX) => Ok(value.clone()),
                _ => wrong(),
            },
            Self::Switch if value.is_boolean() => Ok(value.clone()),
            Self::Text if value.is_string() => Ok(value.clone()),
            Self::Choice(words) => match value.as_str() {
                Some(word) if words.contains(&word) => Ok(value.clone()),
                Some(word) => Err(match nearest(word, words.iter().copied()) {
                    Some(near) => format!("expected {self}, found \"{word}\"; did you mean \"{near}\"?"),
                    None => format!("expected {self}, found \"{word}\""),
                }),
                None => wrong(),
            },
            Self::Numbers(low, high) => {
                let number = Self::Number(*low, *high);
                let Some(items) = value.as_array() else { return wrong() };
                let entry =
                    |(index, item)| number.normalise(item).map_err(|message| format!("entry {index}: {message}"));
                items.iter().enumerate().map(entry).collect()
            }
            Self::Transition => {
                let Some(rows) = value.as_array() else { return wrong() };
                let row = Self::Numbers(0.0, 1.0);
                let normalise =
                    |(index, item)| row.normalise(item).map_err(|message| format!("row {index}: {message}"));
                let rows: Vec<Value> = rows.iter().enumerate().map(normalise).collect::<Result<_, _>>()?;
                for (index, row) in rows.iter().enumerate() {
                    let cells: Vec<f64> = row.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
                    let sum: f64 = cells.iter().sum();
                    if cells.len() != rows.len() {
                        return Err(format!(
                            "row {index} has {} entries, but there are {} rows",
                            cells.len(),
                            rows.len()
                        ));
                    }
                    if (sum - 1.0).abs() > 1e-6 {
                        return Err(format!("row {index} sums to {sum}, expected 1"));
                    }
                }
                Ok(Value::Array(rows))
            }
            _ => wrong(),
        }
    }
}

/// One declared parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// The key in a config.
    pub name: &'static str,
    /// What it means, as one paragraph.
    pub doc: &'static [&'static str],
    /// The accepted values.
    pub range: Range,
    /// The unit, empty where there is none.
    pub unit: &'static str,
    /// Whether it may be left without a value.
    pub optional: bool,
    /// The value when the key is absent; `null` means "none".
    pub default: fn() -> Value,
}

impl Param {
    /// The documentation as one line.
    pub fn summary(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// A value that a method cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to accept `{key}`: {message}")]
pub struct ParamError {
    /// The key at fault.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl ParamError {
    /// An error about `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// The nearest of `known` to `word`, if it is near enough to be a slip of the pen.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::damerau_levenshtein(word, name), name));
    scored
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .map(|(_, name)| name)
}

/// Fills in defaults and brings every value into its canonical form.
///
/// # Errors
/// All faults at once: unknown keys with the nearest known one, wrong types, values out of range.
pub fn resolve(params: &[Param], given: &Values) -> Result<Values, Vec<ParamError>> {
    let mut errors = Vec::new();
    for key in given.keys().filter(|key| params.iter().all(|param| param.name != key.as_str())) {
        let message = match nearest(key, params.iter().map(|param| param.name)) {
            Some(near) => format!("unknown key; did you mean `{near}`?"),
            None if params.is_empty() => "unknown key; none is expected here".to_owned(),
            None => format!(
                "unknown key; known are {}",
                params.iter().map(|param| param.name).collect::<Vec<_>>().join(", ")
            ),
        };
        errors.push(ParamError::new(key, message));
    }
    let mut resolved = Values::new();
    for param in params {
        let value = match given.get(param.name) {
            None => Ok((param.default)()),
            Some(Value::Null) if param.optional => Ok(Value::Null),
            Some(value) => param.range.normalise(value),
        };
        match value {
            Ok(value) => drop(resolved.insert(param.name.to_owned(), value)),
            Err(message) => errors.push(ParamError::new(param.name, message)),
        }
    }
    if errors.is_empty() { Ok(resolved) } else { Err(errors) }
}

/// A Rust type that a parameter can be read into.
pub trait FromValue: Sized {
    /// Whether `null` is a value of this type.
    const OPTIONAL: bool = false;

    /// Reads a value that [`resolve`] accepted.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty => $read:expr;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                let read: fn(&Value) -> Option<Self> = $read;
                read(value)
            }
        }
    )*};
}
from_value! {
    f64 => |value| value.as_f64();
    bool => |value| value.as_bool();
    u64 => |value| value.as_u64();
    usize => |value| value.as_u64().and_then(|number| number.try_into().ok());
    u16 => |value| value.as_u64().and_then(|number| number.try_into().ok());
    u8 => |value| value.as_u64().and_then(|number| number.try_into().ok());
    String => |value| value.as_str().map(str::to_owned);
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_value).collect()
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const OPTIONAL: bool = true;

    fn from_value(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_value(value).map(Some) }
    }
}

/// Declares the parameters of a method once: a struct, its defaults, and the table `PARAMS` from which configs are checked and help,
/// reference pages and the schema are generated.
///
/// ```
/// use theriac_core::{config, param::Range};
///
/// config! {
///     /// Random relabelling.
///     pub struct Flip {
///         /// Fraction of the whole training set.
///         rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
///         /// Relabel only this class.
///         class: Option<u16> = None::<u16>, Range::Class, "";
///     }
/// }
///
/// let given = [("rate".to_owned(), 0.25.into())].into();
/// let flip = Flip::from_values(&given).unwrap();
/// assert_eq!((flip.rate, flip.class), (0.25, None));
/// assert_eq!(Flip::PARAMS[0].unit, "of the training set");
/// ```
#[macro_export]
macro_rules! config {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident : $type:ty = $default:expr, $range:expr, $unit:expr;)*
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq)]
        $visibility struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl $name {
            /// The declared parameters, in order.
            pub const PARAMS: &'static [$crate::param::Param] = &[$($crate::param::Param {
                name: stringify!($field),
                doc: &[$($doc),+],
                range: $range,
                unit: $unit,
                optional: <$type as $crate::param::FromValue>::OPTIONAL,
                default: || $crate::param::Value::from($default),
            }),*];

            /// Fills in defaults and reads the values.
            ///
            /// # Errors
            /// All faults at once.
            #[allow(unused_variables, reason = "a config may have no parameters")]
            pub fn from_values(given: &$crate::param::Values) -> Result<Self, Vec<$crate::param::ParamError>> {
                let resolved = $crate::param::resolve(Self::PARAMS, given)?;
                let mut errors: Vec<$crate::param::ParamError> = Vec::new();
                $(let $field = <$type as $crate::param::FromValue>::from_value(&resolved[stringify!($field)]);
                if $field.is_none() {
                    let message = format!("expected {}, found {}", $range, resolved[stringify!($field)]);
                    errors.push($crate::param::ParamError::new(stringify!($field), message));
                })*
                match ($($field,)*) {
                    ($(Some($field),)*) => Ok(Self { $($field),* }),
                    #[allow(unreachable_patterns, reason = "a config may have no parameters")]
                    _ => Err(errors),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::from_values(&$crate::param::Values::new()).expect("defaults are valid")
            }
        }
    };
}

#[cfg(test)]
mod tests;
