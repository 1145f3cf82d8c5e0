//! What is put into a document, and what of it cannot be.

use crate::code::Code;
use crate::counter::Entry;
use crate::limits::{KEY_BYTES_MAX, VALUE_DEPTH_MAX};
use yrs::types::Attrs;
use yrs::{Any, Number};

/// A value for a list or a map.
#[derive(Debug, Clone, PartialEq)]
pub enum NewValue {
    /// A plain value, replaced as a whole.
    Plain(Any),
    /// A shared text with this content.
    Text(String),
    /// A shared list.
    List(Vec<NewValue>),
    /// A shared map.
    Map(Vec<(String, NewValue)>),
    /// A counter that starts at this value.
    Counter(i64),
}

impl NewValue {
    /// How deep shared types are nested in it. Deeper than any document may be counts as that.
    pub(super) fn type_depth(&self) -> usize {
        match self {
            NewValue::Plain(_) => 0,
            NewValue::Text(_) | NewValue::Counter(_) => 1,
            NewValue::List(values) => 1 + values.iter().map(NewValue::type_depth).max().unwrap_or(0),
            NewValue::Map(entries) => {
                1 + entries.iter().map(|(_, value)| value.type_depth()).max().unwrap_or(0)
            }
        }
    }

    /// Refuses what cannot be stored; answers about how many bytes it takes.
    pub(super) fn check(&self) -> Result<usize, Code> {
        match self {
            NewValue::Plain(value) => check_plain(value),
            NewValue::Text(text) => Ok(text.len()),
            NewValue::Counter(start) => match Entry::default().plus(*start) {
                Some(_) => Ok(16),
                None => Err(Code::InvalidValue),
            },
            NewValue::List(values) => values.iter().try_fold(8, |bytes, value| Ok(bytes + value.check()?)),
            NewValue::Map(entries) => entries.iter().try_fold(8, |bytes, (key, value)| {
                check_key(key)?;
                Ok(bytes + key.len() + value.check()?)
            }),
        }
    }
}

pub(super) fn check_key(key: &str) -> Result<(), Code> {
    if key.len() > KEY_BYTES_MAX { Err(Code::InvalidValue) } else { Ok(()) }
}

/// Refuses a plain value that cannot be stored; answers about how many bytes it takes.
pub(super) fn check_plain(value: &Any) -> Result<usize, Code> {
    walk(value, VALUE_DEPTH_MAX, false)
}

/// The same for embedded values and formats, which are stored as JSON.
pub(super) fn check_json(value: &Any) -> Result<usize, Code> {
    walk(value, VALUE_DEPTH_MAX, true)
}

pub(super) fn check_formats(formats: &Attrs) -> Result<(), Code> {
    formats.iter().try_for_each(|(key, value)| {
        check_key(key)?;
        check_json(value).map(drop)
    })
}

fn walk(value: &Any, depth_left: usize, is_json: bool) -> Result<usize, Code> {
    let inner = || depth_left.checked_sub(1).ok_or(Code::InvalidValue);
    match value {
        Any::Undefined => Err(Code::InvalidValue),
        Any::Null | Any::Bool(_) => Ok(1),
        Any::Number(Number::Float(number)) if is_json && !number.is_finite() => Err(Code::InvalidValue),
        Any::Number(Number::Int(number)) if is_json && number.unsigned_abs() >= 1 << 53 => {
            Err(Code::InvalidValue)
        }
        Any::Number(_) => Ok(9),
        Any::String(text) => Ok(text.len() + 2),
        Any::Buffer(_) if is_json => Err(Code::InvalidValue),
        Any::Buffer(bytes) => Ok(bytes.len() + 2),
        Any::Array(values) => {
            let inner = inner()?;
            values.iter().try_fold(2, |bytes, value| Ok(bytes + walk(value, inner, is_json)?))
        }
        Any::Map(entries) => {
            let inner = inner()?;
            entries.iter().try_fold(2, |bytes, (key, value)| {
                check_key(key)?;
                Ok(bytes + key.len() + walk(value, inner, is_json)?)
            })
        }
    }
}
