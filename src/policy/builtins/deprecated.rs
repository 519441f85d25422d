//! Functions that Rego had before OPA 1.0. Published tests of that time use them; a policy in force cannot.

use anyhow::{Result, bail};
use regorus::Value;

use super::super::value::type_name;
use super::{Function, bounds, regex_match, take};

/// The functions defined here.
pub(super) const NAMES: [&str; 11] = [
    "all",
    "any",
    "cast_array",
    "cast_boolean",
    "cast_null",
    "cast_object",
    "cast_set",
    "cast_string",
    "net.cidr_overlap",
    "re_match",
    "set_diff",
];

/// A function with the number of its arguments and what to write instead.
pub(super) fn find(name: &str) -> Option<(u8, Function, &'static str)> {
    Some(match name {
        "all" => (1, all, "Rego v1 does not have it; use `every`"),
        "any" => (1, any, "Rego v1 does not have it; use `true in …`"),
        "cast_array" => (1, cast_array, "Rego v1 does not have it; use `is_array` or a comprehension"),
        "cast_boolean" => (1, |args| cast(args, "boolean"), "Rego v1 does not have it; use `is_boolean`"),
        "cast_null" => (1, |args| cast(args, "null"), "Rego v1 does not have it; use `is_null`"),
        "cast_object" => (1, |args| cast(args, "object"), "Rego v1 does not have it; use `is_object`"),
        "cast_set" => (1, cast_set, "Rego v1 does not have it; use `is_set` or a comprehension"),
        "cast_string" => (1, |args| cast(args, "string"), "Rego v1 does not have it; use `is_string`"),
        "net.cidr_overlap" => (
            2,
            |args| bounds::stock("net.cidr_contains", args),
            "Rego v1 does not have it; use `net.cidr_contains`",
        ),
        "re_match" => (2, regex_match, "Rego v1 does not have it; use `regex.match`"),
        "set_diff" => (2, set_diff, "Rego v1 does not have it; use `-`"),
        _ => return None,
    })
}

fn items<'a>(name: &str, args: &'a [Value]) -> Result<Vec<&'a Value>> {
    match take(name, args)? {
        [Value::Array(items)] => Ok(items.iter().collect()),
        [Value::Set(items)] => Ok(items.iter().collect()),
        [other] => bail!("`{name}` expects an array or a set. Got {} instead", type_name(other)),
    }
}

fn all(args: &[Value]) -> Result<Value> {
    Ok(Value::from(items("all", args)?.into_iter().all(|item| *item == Value::Bool(true))))
}

fn any(args: &[Value]) -> Result<Value> {
    Ok(Value::from(items("any", args)?.into_iter().any(|item| *item == Value::Bool(true))))
}

fn cast_array(args: &[Value]) -> Result<Value> {
    Ok(Value::from(items("cast_array", args)?.into_iter().cloned().collect::<Vec<_>>()))
}

fn cast_set(args: &[Value]) -> Result<Value> {
    let items = items("cast_set", args)?.into_iter().cloned();
    Ok(Value::from(items.collect::<std::collections::BTreeSet<_>>()))
}

/// A value that has the wanted type already; any other is an error.
fn cast(args: &[Value], wanted: &str) -> Result<Value> {
    match take("cast", args)? {
        [value] if type_name(value) == wanted => Ok(value.clone()),
        [other] => {
            bail!("`cast_{wanted}` expects a value of type {wanted}. Got {} instead", type_name(other))
        }
    }
}

fn set_diff(args: &[Value]) -> Result<Value> {
    match take("set_diff", args)? {
        [Value::Set(one), Value::Set(other)] => {
            let left = one.iter().filter(|item| !other.contains(item)).cloned();
            Ok(Value::from(left.collect::<std::collections::BTreeSet<_>>()))
        }
        [one, other] => {
            bail!("`set_diff` expects two sets. Got {} and {} instead", type_name(one), type_name(other))
        }
    }
}
