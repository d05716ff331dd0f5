//! TOML as a tree in which everything knows its place in the text.

use std::collections::BTreeMap;
use std::ops::Range;

use theriac_core::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// The value.
    pub data: Data,
}

/// What a value can be.
#[derive(Debug)]
pub(super) enum Data {
    /// Text, a number or a switch.
    Scalar(Value),
    /// What TOML can write and no parameter can be: `nan`, `inf`, a date, an integer that is too large.
    Odd(String),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Entries),
}

/// Keys, each with the place of the key and the value.
pub(super) type Entries = BTreeMap<String, (Range<usize>, Node)>;

/// Reads TOML.
///
/// # Errors
/// All syntax errors, each with its place.
pub(super) fn parse(text: &str) -> Result<Node, Vec<(Range<usize>, String)>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(Node { span: 0..0, data: Data::Table(entries(table.get_ref())) });
    }
    let end = text.trim_end().len();
    let place = |span: Option<Range<usize>>| span.filter(|span| span.start <= end).unwrap_or(end..end);
    Err(errors.iter().map(|error| (place(error.span()), error.message().to_owned())).collect())
}

fn entries(table: &DeTable) -> Entries {
    let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue>)| {
        (key.get_ref().clone().into_owned(), (key.span(), node(value)))
    };
    table.iter().map(entry).collect()
}

fn node(value: &Spanned<DeValue>) -> Node {
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Scalar(Value::from(text.as_ref())),
        DeValue::Boolean(switch) => Data::Scalar(Value::from(*switch)),
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix()).map(Value::from);
            whole.map_or_else(|_| Data::Odd(format!("{number}, which is too large for TOML")), Data::Scalar)
        }
        // JSON has neither `nan` nor `inf`; they must not become `null`, which means "none".
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(float) if float.is_finite() => Data::Scalar(Value::from(float)),
            _ => Data::Odd(number.as_str().to_owned()),
        },
        DeValue::Datetime(date) => Data::Odd(format!("the date {date}")),
        DeValue::Array(items) => Data::List(items.iter().map(node).collect()),
        DeValue::Table(table) => Data::Table(entries(table)),
    };
    Node { span: value.span(), data }
}

impl Node {
    /// How deep lists are nested: 0 for a scalar, 1 for a list of scalars.
    pub fn depth(&self) -> usize {
        match &self.data {
            Data::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// What was found instead, for a person.
    pub fn json(&self) -> Result<Value, String> {
        match &self.data {
            Data::Scalar(value) => Ok(value.clone()),
            Data::Odd(found) => Err(found.clone()),
            Data::List(items) => items.iter().map(Self::json).collect::<Result<_, _>>().map(Value::Array),
            Data::Table(_) => Err("a table".to_owned()),
        }
    }

    /// What stands here, for a person.
    pub fn found(&self) -> String {
        match &self.data {
            Data::List(_) => "a list".to_owned(),
            _ => self.json().map_or_else(|found| found, |value| value.to_string()),
        }
    }

    /// The text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(value) => value.as_str(),
            _ => None,
        }
    }

    /// The entries, if it is a table.
    pub fn table(&self) -> Option<&Entries> {
        match &self.data {
            Data::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list, or the value itself: lists of one may leave out the brackets.
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }
}
