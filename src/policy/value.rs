//! Values across the border: calls into regorus, results out of it, neither by way of text.

use std::collections::BTreeMap;

use regorus::Value;
use serde_json::Value as Json;

use crate::call::{Action, Call, Entity};
use crate::json::Object;

/// A call as policies see it under `input`; equal to what its JSON text would parse to.
pub(super) fn from_call(call: &Call) -> Value {
    object([
        ("action", from_action(&call.action)),
        ("context", from_object(&call.context)),
        ("resource", from_entity(&call.resource)),
        ("subject", from_entity(&call.subject)),
    ])
}

/// JSON as a policy sees it.
pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => from_number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(fields) => from_object(fields),
    }
}

/// What a policy produced, as JSON: sets become arrays in their order, and keys that are no strings their JSON text.
pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Undefined => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(_) => to_number(value),
        Value::String(text) => Json::String(text.to_string()),
        Value::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Set(items) => Json::Array(items.iter_sorted().map(to_json).collect()),
        Value::Object(fields) => Json::Object(
            fields
                .iter_sorted()
                .map(|(key, value)| {
                    let key = match key {
                        Value::String(text) => text.to_string(),
                        other => to_json(other).to_string(),
                    };
                    (key, to_json(value))
                })
                .collect(),
        ),
    }
}

/// About how many bytes of memory a value takes.
pub(super) fn bytes(value: &Value) -> usize {
    /// A value by itself, with its share of what holds it.
    const NODE_BYTES: usize = 64;
    let parts: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes).sum(),
        Value::Set(items) => items.iter().map(bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| bytes(key) + bytes(value)).sum(),
        Value::Null | Value::Undefined | Value::Bool(_) | Value::Number(_) => 0,
    };
    parts + NODE_BYTES
}

/// A word for a value's type, as `type_name` in Rego.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Set(_) => "set",
        Value::Object(_) => "object",
        Value::Undefined => "undefined",
    }
}

fn from_entity(entity: &Entity) -> Value {
    object([
        ("id", Value::from(entity.id.as_str())),
        ("properties", from_object(&entity.properties)),
        ("type", Value::from(entity.kind.as_str())),
    ])
}

fn from_action(action: &Action) -> Value {
    let name = ("name", Value::from(action.name.as_str()));
    if action.properties.is_empty() {
        object([name])
    } else {
        object([name, ("properties", from_object(&action.properties))])
    }
}

fn from_object(fields: &Object) -> Value {
    let fields = fields.iter().map(|(key, value)| (Value::from(key.as_str()), from_json(value)));
    Value::from(fields.collect::<BTreeMap<_, _>>())
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::from(fields.map(|(key, value)| (Value::from(key), value)).into_iter().collect::<BTreeMap<_, _>>())
}

fn from_number(number: &serde_json::Number) -> Value {
    if let Some(value) = number.as_u64() {
        Value::from(value)
    } else if let Some(value) = number.as_i64() {
        Value::from(value)
    } else {
        number.as_f64().map_or(Value::Null, Value::from)
    }
}

fn to_number(value: &Value) -> Json {
    if let Ok(value) = value.as_u64() {
        Json::from(value)
    } else if let Ok(value) = value.as_i64() {
        Json::from(value)
    } else if let Some(number) = value.as_f64().ok().and_then(serde_json::Number::from_f64) {
        Json::Number(number)
    } else {
        // An integer beyond 64 bit that is beyond a double too: its digits say more than a null would.
        Json::String(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_converts_as_its_text_would() {
        let text = r#"{"subject":{"type":"identity","id":"a","properties":{"n":-5,"f":1.5,"big":18446744073709551615}},
            "action":{"name":"tools/call"},"resource":{"type":"tool","id":"x","properties":{}},
            "context":{"arguments":{"list":[1,null,true,{"k":"v"}]}}}"#;
        let call: Call = serde_json::from_str(text).unwrap();
        assert_eq!(from_call(&call), Value::from_json_str(text).unwrap());
    }

    #[test]
    fn results_convert_back() {
        for text in ["null", "[1,-2,2.5,\"x\"]", r#"{"a":{"b":[true]},"c":18446744073709551615}"#] {
            let json: Json = serde_json::from_str(text).unwrap();
            assert_eq!(to_json(&from_json(&json)), json);
        }
        let mut engine = regorus::Engine::new();
        let set =
            engine.eval_query("{3, 1, 2}".into(), false).unwrap().result[0].expressions[0].value.clone();
        assert_eq!(to_json(&set), serde_json::json!([1, 2, 3]));
    }
}
