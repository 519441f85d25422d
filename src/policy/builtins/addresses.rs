//! Network ranges: `net.cidr_merge`, `net.cidr_intersects`, `net.cidr_contains_matches`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, anyhow, bail};
use ipnet::{IpNet, Ipv4Net};
use regorus::Value;

use super::bounds::{MAX_ITEMS, bounded};
use super::{in_time, take, text};
use crate::policy::value::type_name;

/// The fewest ranges that cover the same addresses. An address without a prefix stands for its class's network, which
/// only IPv4 has.
pub(super) fn merge(args: &[Value]) -> Result<Value> {
    let name = "net.cidr_merge";
    let [ranges] = take(name, args)?;
    let items: Vec<&Value> = match ranges {
        Value::Array(items) => items.iter().collect(),
        Value::Set(items) => items.iter().collect(),
        other => bail!("`{name}` expects an array or set of strings. Got {} instead", type_name(other)),
    };
    let mut read = Vec::with_capacity(items.len());
    for item in items {
        let written = text(name, item)?;
        read.push(match range(written) {
            Some(range) => range,
            None => classful(name, written)?,
        });
    }
    let merged = IpNet::aggregate(&read).into_iter().map(|range| Value::from(range.to_string()));
    Ok(Value::from(merged.collect::<BTreeSet<_>>()))
}

/// Whether two ranges share an address.
pub(super) fn intersects(args: &[Value]) -> Result<Value> {
    let name = "net.cidr_intersects";
    let [a, b] = take(name, args)?;
    let read = |value| {
        let written = text(name, value)?;
        range(written).ok_or_else(|| anyhow!("`{name}`: `{written}` is no range, as in `10.0.0.0/8`"))
    };
    let (a, b) = (read(a)?, read(b)?);
    Ok(Value::from(a.contains(&b) || b.contains(&a)))
}

/// The pairs of which the first range contains the second range or address, each by its index, its key, or itself.
pub(super) fn contains_matches(args: &[Value]) -> Result<Value> {
    let name = "net.cidr_contains_matches";
    let [ranges, others] = take(name, args)?;
    let (ranges, others) = (named(name, ranges)?, named(name, others)?);
    let mut found = BTreeSet::new();
    for (range_name, written) in &ranges {
        let within = range(written).ok_or_else(|| anyhow!("`{name}`: `{written}` is no range"))?;
        for (other_name, written) in &others {
            in_time()?;
            let other = range(written).or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
            let other = other.ok_or_else(|| anyhow!("`{name}`: `{written}` is no range or address"))?;
            if within.contains(&other) {
                found.insert(Value::from(vec![range_name.clone(), other_name.clone()]));
                bounded(name, found.len(), MAX_ITEMS, "pairs")?;
            }
        }
    }
    Ok(Value::from(found))
}

fn range(written: &str) -> Option<IpNet> {
    written.parse::<IpNet>().ok().map(|range| range.trunc())
}

fn classful(name: &str, written: &str) -> Result<IpNet> {
    let prefix = match written.parse() {
        Ok(IpAddr::V4(address)) => match address.octets() {
            [0..=127, ..] => Some((address, 8)),
            [128..=191, ..] => Some((address, 16)),
            [192..=223, ..] => Some((address, 24)),
            _ => None,
        },
        Ok(IpAddr::V6(_)) => None,
        Err(_) => bail!("`{name}`: `{written}` is no range or address"),
    };
    let (address, prefix) = prefix.ok_or_else(|| anyhow!("`{name}`: `{written}` needs a prefix length"))?;
    Ok(Ipv4Net::new(address, prefix)?.trunc().into())
}

/// The ranges of one operand with what each is called in the answer.
fn named<'a>(name: &str, operand: &'a Value) -> Result<Vec<(Value, &'a str)>> {
    let written = |item: &'a Value| match item {
        Value::Array(items) => {
            let first = items.first().ok_or_else(|| anyhow!("`{name}` expects arrays that are not empty"))?;
            text(name, first)
        }
        other => text(name, other),
    };
    match operand {
        Value::String(text) => Ok(vec![(operand.clone(), text)]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| Ok((Value::from(index), written(item)?))).collect()
        }
        Value::Set(items) => items.iter().map(|item| Ok((item.clone(), written(item)?))).collect(),
        Value::Object(fields) => fields.iter().map(|(key, item)| Ok((key.clone(), written(item)?))).collect(),
        other => bail!("`{name}` expects a string, array, set or object. Got {} instead", type_name(other)),
    }
}
