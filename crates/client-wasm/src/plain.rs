//! Plain values across the boundary. Numbers that JavaScript cannot hold are `bigint` both ways.

use js_sys::{Array, JsString, Object, Reflect, Uint8Array};
use std::collections::HashMap;
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::draft::NewValue;
use tidewell_sync_core::path::{Path, Step};
use wasm_bindgen::{JsCast, JsValue};
use yrs::types::Attrs;
use yrs::{Any, Number};

/// Largest whole number that a JavaScript number holds exactly.
const SAFE_MAX: u64 = (1 << 53) - 1;

/// Reads a plain value. The package has looked through it before: it has no cycles and is not nested too deeply.
pub(crate) fn from_js(value: &JsValue) -> Result<Any, Code> {
    if value.is_null() || value.is_undefined() {
        return Ok(Any::Null);
    }
    if let Some(value) = value.as_bool() {
        return Ok(Any::Bool(value));
    }
    if let Some(number) = value.as_f64() {
        let is_whole = number.fract() == 0.0 && number.abs() <= SAFE_MAX as f64 && !is_negative_zero(number);
        return Ok(Any::Number(if is_whole { Number::Int(number as i64) } else { Number::Float(number) }));
    }
    if let Some(text) = value.as_string() {
        return Ok(Any::String(text.into()));
    }
    if value.is_bigint() {
        return i64::try_from(value.clone())
            .map(|value| Any::Number(Number::Int(value)))
            .map_err(|_| Code::InvalidValue);
    }
    if let Some(values) = value.dyn_ref::<Array>() {
        let values: Vec<Any> = values.iter().map(|value| from_js(&value)).collect::<Result<_, _>>()?;
        return Ok(Any::Array(values.into()));
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Ok(Any::Buffer(bytes.to_vec().into()));
    }
    let object: &Object = value.dyn_ref().filter(|_| !value.is_function()).ok_or(Code::InvalidValue)?;
    let mut entries = HashMap::new();
    for entry in Object::entries(object).iter() {
        let entry: &Array = entry.unchecked_ref();
        let key = entry.get(0).as_string().ok_or(Code::InvalidValue)?;
        entries.insert(key, from_js(&entry.get(1))?);
    }
    Ok(Any::from(entries))
}

fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

/// Reads formats: an object, or nothing.
pub(crate) fn formats_from_js(value: JsValue) -> Result<Option<Attrs>, Code> {
    if value.is_undefined() || value.is_null() {
        return Ok(None);
    }
    match from_js(&value)? {
        Any::Map(entries) => {
            Ok(Some(entries.iter().map(|(key, value)| (key.as_str().into(), value.clone())).collect()))
        }
        _ => Err(Code::InvalidValue),
    }
}

/// Reads a new value as the package writes it: `[0, plain]`, `[1, text]`, `[2, values]`,
/// `[3, [[key, value], …]]` or `[4, start of a counter]`.
pub(crate) fn new_value_from_js(value: &JsValue) -> Result<NewValue, Code> {
    let pair: &Array = value.dyn_ref().ok_or(Code::InvalidValue)?;
    let content = pair.get(1);
    let list = || content.dyn_ref::<Array>().ok_or(Code::InvalidValue);
    match pair.get(0).as_f64() {
        Some(0.0) => Ok(NewValue::Plain(from_js(&content)?)),
        Some(1.0) => Ok(NewValue::Text(content.as_string().ok_or(Code::InvalidValue)?)),
        Some(2.0) => {
            let values = list()?.iter().map(|value| new_value_from_js(&value)).collect::<Result<_, _>>()?;
            Ok(NewValue::List(values))
        }
        Some(3.0) => {
            let entries = list()?.iter().map(|entry| {
                let entry: &Array = entry.dyn_ref().ok_or(Code::InvalidValue)?;
                let key = entry.get(0).as_string().ok_or(Code::InvalidValue)?;
                Ok((key, new_value_from_js(&entry.get(1))?))
            });
            Ok(NewValue::Map(entries.collect::<Result<_, Code>>()?))
        }
        Some(4.0) => Ok(NewValue::Counter(integer(content.as_f64())?)),
        _ => Err(Code::InvalidValue),
    }
}

/// A whole number that is exact.
pub(crate) fn integer(number: Option<f64>) -> Result<i64, Code> {
    match number {
        Some(number) if number.fract() == 0.0 && number.abs() <= SAFE_MAX as f64 => Ok(number as i64),
        _ => Err(Code::InvalidValue),
    }
}

/// A position or length.
pub(crate) fn position(number: f64) -> Result<u32, Code> {
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        Ok(number as u32)
    } else {
        Err(Code::InvalidRange)
    }
}

/// Reads a path: the name of a root type, or an array that begins with it and goes on with keys and indexes.
pub(crate) fn path_from_js(value: &JsValue) -> Result<Path, Code> {
    if let Some(root) = value.as_string() {
        return Ok(Path::root(&root));
    }
    let parts: &Array = value.dyn_ref().ok_or(Code::InvalidPath)?;
    let root = parts.get(0).as_string().ok_or(Code::InvalidPath)?;
    let steps = parts.iter().skip(1).map(|part| match (part.as_string(), part.as_f64()) {
        (Some(key), _) => Ok(Step::Key(Arc::from(key))),
        (None, Some(index)) => position(index).map(Step::Index).map_err(|_| Code::InvalidPath),
        (None, None) => Err(Code::InvalidPath),
    });
    Ok(Path { root: root.into(), steps: steps.collect::<Result<_, _>>()? })
}

/// Makes a frozen JavaScript value.
pub(crate) fn to_js(value: &Any) -> JsValue {
    match value {
        Any::Null => JsValue::NULL,
        Any::Undefined => JsValue::UNDEFINED,
        Any::Bool(value) => JsValue::from_bool(*value),
        Any::Number(Number::Int(number)) if number.unsigned_abs() > SAFE_MAX => JsValue::from(*number),
        Any::Number(Number::Int(number)) => JsValue::from_f64(*number as f64),
        Any::Number(Number::Float(number)) => JsValue::from_f64(*number),
        Any::String(text) => JsValue::from_str(text),
        // Typed arrays cannot be frozen.
        Any::Buffer(bytes) => Uint8Array::from(bytes.as_ref()).into(),
        Any::Array(values) => Object::freeze(&values.iter().map(to_js).collect::<Array>()).into(),
        Any::Map(entries) => {
            let object = Object::new();
            for (key, value) in entries.iter() {
                set(&object, key, &to_js(value));
            }
            Object::freeze(&object).into()
        }
    }
}

/// Formats as an object.
pub(crate) fn formats_to_js(formats: &Attrs) -> JsValue {
    let object = Object::new();
    for (key, value) in formats {
        set(&object, key, &to_js(value));
    }
    Object::freeze(&object).into()
}

/// Sets an own property, `__proto__` included: documents come from strangers.
pub(crate) fn set(object: &Object, key: &str, value: &JsValue) {
    let key: JsString = key.into();
    if key == "__proto__" {
        let descriptor = Object::new();
        for (name, part) in [("value", value), ("enumerable", &JsValue::TRUE)] {
            drop(Reflect::set(&descriptor, &name.into(), part));
        }
        drop(Reflect::define_property(object, &key, &descriptor));
    } else {
        drop(Reflect::set(object, &key, value));
    }
}
