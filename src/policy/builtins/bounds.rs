//! Built-ins whose arguments are looked at before regorus' own function of that name runs.
//!
//! A few bytes can make each of these run or allocate without bound, and the time limit cannot interrupt a built-in.

use anyhow::{Result, anyhow, bail};
use regorus::Value;
use regorus::unstable::{BUILTINS, Expr, Ref, Span};

use super::{integer, take, text};
use crate::policy::yaml::check_depth;

/// Bytes of text a built-in may produce.
pub(super) const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;
/// Items of an array a built-in may produce.
pub(super) const MAX_ITEMS: usize = 1_000_000;
/// Numbers `product` may multiply: its result grows with each.
const MAX_FACTORS: usize = 10_000;
/// Bits `bits.lsh` may shift by.
const MAX_SHIFT_BITS: u64 = 65_536;
/// Bytes of text `units.parse` reads.
const MAX_QUANTITY_BYTES: usize = 64;
/// Bytes of YAML.
const MAX_YAML_BYTES: usize = 64 * 1024;
/// Width or precision in a `sprintf` verb.
const MAX_WIDTH: usize = 10_000;
/// Values, each as often as something leads to it, with the keys on the way there: 30 arrays that share their parts are 2^30.
const MAX_WALK_STEPS: usize = 1_000_000;
/// Steps `graph.reachable_paths` may take: a graph of 30 nodes can have 2^28 paths.
const MAX_PATH_STEPS: usize = 100_000;

pub(super) fn numbers_range(args: &[Value]) -> Result<Value> {
    let [from, to] = take("numbers.range", args)?;
    range("numbers.range", from, to, 1)
}

pub(super) fn numbers_range_step(args: &[Value]) -> Result<Value> {
    let [from, to, step] = take("numbers.range_step", args)?;
    if step > &Value::from(i64::MAX) && matches!(step, Value::Number(number) if number.is_integer()) {
        // The first step is one too many.
        integer("numbers.range_step", to)?;
        return Ok(Value::from(vec![Value::from(integer("numbers.range_step", from)?)]));
    }
    let step = integer("numbers.range_step", step)?;
    if step <= 0 {
        bail!("`numbers.range_step` expects a positive step. Got `{step}` instead");
    }
    range("numbers.range_step", from, to, step)
}

fn range(name: &str, from: &Value, to: &Value, step: i64) -> Result<Value> {
    let (from, to) = (integer(name, from)?, integer(name, to)?);
    let items = usize::try_from(from.abs_diff(to) / step.unsigned_abs()).unwrap_or(usize::MAX);
    bounded(name, items, MAX_ITEMS, "items")?;
    let step = if from <= to { step } else { -step };
    let mut numbers = Vec::with_capacity(items + 1);
    let mut next = Some(from);
    while let Some(number) = next.filter(|number| if step > 0 { *number <= to } else { *number >= to }) {
        numbers.push(Value::from(number));
        next = number.checked_add(step);
    }
    Ok(Value::from(numbers))
}

pub(super) fn product(args: &[Value]) -> Result<Value> {
    bounded("product", args.first().map_or(0, length), MAX_FACTORS, "numbers")?;
    stock("product", args)
}

pub(super) fn bits_lsh(args: &[Value]) -> Result<Value> {
    if args.get(1).and_then(|by| by.as_u64().ok()).is_some_and(|by| by > MAX_SHIFT_BITS) {
        bail!("`bits.lsh` may shift by at most {MAX_SHIFT_BITS} bits");
    }
    stock("bits.lsh", args)
}

/// An exponent of nine digits would be written out in full: hours for a few bytes that a call may bring.
pub(super) fn units(name: &str, args: &[Value]) -> Result<Value> {
    let [value] = take(name, args)?;
    let value = text(name, value)?;
    let exponent = |rest: &str| {
        let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        digits.bytes().take_while(u8::is_ascii_digit).count()
    };
    if value.len() > MAX_QUANTITY_BYTES || value.split(['e', 'E']).skip(1).any(|rest| exponent(rest) > 2) {
        bail!(
            "`{name}` expects at most {MAX_QUANTITY_BYTES} characters and an exponent of at most two digits"
        );
    }
    stock(name, args)
}

pub(super) fn array_concat(args: &[Value]) -> Result<Value> {
    let items = args.iter().map(length).fold(0, usize::saturating_add);
    bounded("array.concat", items, MAX_ITEMS, "items")?;
    stock("array.concat", args)
}

pub(super) fn cidr_expand(args: &[Value]) -> Result<Value> {
    let [cidr] = take("net.cidr_expand", args)?;
    let written = text("net.cidr_expand", cidr)?;
    if let Some((address, prefix)) = written.split_once('/') {
        let bits = if address.contains(':') { 128u32 } else { 32 };
        let hosts = bits.saturating_sub(prefix.parse().unwrap_or(bits));
        bounded("net.cidr_expand", 1usize.checked_shl(hosts).unwrap_or(usize::MAX), MAX_ITEMS, "addresses")?;
    }
    stock("net.cidr_expand", args)
}

pub(super) fn concat(args: &[Value]) -> Result<Value> {
    let delimiter = args.first().map_or(0, text_bytes);
    let bytes = args.get(1).map_or(0, |items| match items {
        Value::Array(items) => items.iter().map(text_bytes).fold(0, usize::saturating_add),
        Value::Set(items) => items.iter().map(text_bytes).fold(0, usize::saturating_add),
        _ => 0,
    });
    let items = args.get(1).map_or(0, length);
    bounded("concat", bytes.saturating_add(delimiter.saturating_mul(items)), MAX_TEXT_BYTES, "bytes")?;
    stock("concat", args)
}

pub(super) fn replace(args: &[Value]) -> Result<Value> {
    if let [Value::String(value), Value::String(old), Value::String(new)] = args {
        grown("replace", value, old.len(), new.len())?;
    }
    stock("replace", args)
}

pub(super) fn yaml(name: &str, args: &[Value]) -> Result<Value> {
    if name == "yaml.is_valid" && !matches!(args, [Value::String(_)]) {
        return Ok(Value::from(false));
    }
    if args.first().is_some_and(|value| text_bytes(value) > MAX_YAML_BYTES) {
        bail!("`{name}` reads at most {MAX_YAML_BYTES} bytes; JSON may be larger");
    }
    if let Some(Value::String(written)) = args.first()
        && let Err(error) = check_depth(written)
    {
        if name == "yaml.is_valid" {
            return Ok(Value::from(false));
        }
        bail!("`{name}` cannot read it: {error}");
    }
    stock(name, args)
}

pub(super) fn strings_replace_n(args: &[Value]) -> Result<Value> {
    if let [Value::Object(pairs), Value::String(value)] = args {
        let mut bytes = value.len();
        for (old, new) in pairs.iter() {
            let matches = (bytes / text_bytes(old).max(1)).saturating_add(1);
            bytes = bytes.saturating_add(matches.saturating_mul(text_bytes(new)));
            bounded("strings.replace_n", bytes, MAX_TEXT_BYTES, "bytes")?;
        }
    }
    stock("strings.replace_n", args)
}

/// Bounds what replacing texts of `old` bytes by `new` bytes can make of a value.
fn grown(name: &str, value: &str, old: usize, new: usize) -> Result<()> {
    let matches = (value.len() / old.max(1)).saturating_add(1);
    bounded(name, value.len().saturating_add(matches.saturating_mul(new)), MAX_TEXT_BYTES, "bytes")
}

pub(super) fn sprintf(args: &[Value]) -> Result<Value> {
    if let Some(Value::String(format)) = args.first() {
        let digits = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        for width in digits {
            // Digits that are no width are rarely that large, and then `%s` says the same.
            bounded("sprintf", width.parse().unwrap_or(usize::MAX), MAX_WIDTH, "columns")?;
        }
    }
    printed("sprintf", args)
}

/// Functions whose text is as long as their arguments are when written out, shared parts written each time.
pub(super) fn printed(name: &str, args: &[Value]) -> Result<Value> {
    let mut budget = MAX_TEXT_BYTES;
    if !args.iter().all(|arg| spend(arg, &mut budget)) {
        bail!("`{name}` may produce at most {MAX_TEXT_BYTES} bytes");
    }
    stock(name, args)
}

/// Takes what a value costs when written out from the budget; `false` once it is used up.
pub(in crate::policy) fn spend(value: &Value, budget: &mut usize) -> bool {
    let cost = match value {
        Value::String(text) => text.len() + 2,
        _ => 8,
    };
    let Some(left) = budget.checked_sub(cost) else { return false };
    *budget = left;
    match value {
        Value::Array(items) => items.iter().all(|item| spend(item, budget)),
        Value::Set(items) => items.iter().all(|item| spend(item, budget)),
        Value::Object(fields) => fields.iter().all(|(key, value)| spend(key, budget) && spend(value, budget)),
        _ => true,
    }
}

/// Functions that visit, or take apart, all of their arguments: shared parts each time.
pub(super) fn walked(name: &str, args: &[Value]) -> Result<Value> {
    let mut steps = MAX_WALK_STEPS;
    if !args.iter().all(|arg| visit(arg, 1, &mut steps)) {
        bail!("`{name}` may take at most {MAX_WALK_STEPS} steps through its arguments");
    }
    stock(name, args)
}

/// Takes the steps to a value, and to all within it; `false` once there are none left.
fn visit(value: &Value, depth: usize, steps: &mut usize) -> bool {
    let Some(left) = steps.checked_sub(depth) else { return false };
    *steps = left;
    match value {
        Value::Array(items) => items.iter().all(|item| visit(item, depth + 1, steps)),
        Value::Set(items) => items.iter().all(|item| visit(item, depth + 1, steps)),
        Value::Object(fields) => fields.iter().all(|(_, value)| visit(value, depth + 1, steps)),
        _ => true,
    }
}

pub(super) fn split(args: &[Value]) -> Result<Value> {
    if let [Value::String(value), Value::String(delimiter)] = args {
        let parts = value.matches(&**delimiter).count().saturating_add(1);
        bounded("split", parts, MAX_ITEMS, "parts")?;
    }
    stock("split", args)
}

pub(super) fn reachable_paths(args: &[Value]) -> Result<Value> {
    if let [Value::Object(graph), from] = args {
        let mut steps = MAX_PATH_STEPS;
        let mut starts: Vec<&Value> = Vec::new();
        match from {
            Value::Array(items) => starts.extend(items.iter()),
            Value::Set(items) => starts.extend(items.iter()),
            _ => {}
        }
        // Depth first with the path so far, as the function itself goes.
        let mut path: Vec<&Value> = Vec::new();
        let mut pending: Vec<(&Value, usize)> = starts.into_iter().map(|start| (start, 0)).collect();
        while let Some((node, depth)) = pending.pop() {
            path.truncate(depth);
            steps = steps.checked_sub(1 + depth).ok_or_else(|| {
                anyhow!(
                    "`graph.reachable_paths` may take at most {MAX_PATH_STEPS} steps; use `graph.reachable`"
                )
            })?;
            if path.contains(&node) {
                continue;
            }
            path.push(node);
            match graph.get(node) {
                Some(Value::Array(items)) => pending.extend(items.iter().map(|item| (item, depth + 1))),
                Some(Value::Set(items)) => pending.extend(items.iter().map(|item| (item, depth + 1))),
                _ => {}
            }
        }
    }
    stock("graph.reachable_paths", args)
}

thread_local! {
    /// regorus' built-ins want the syntax of their call, for error messages only: this stands for it.
    static NOWHERE: Option<(Span, [Ref<Expr>; 3])> = {
        let source = regorus::Source::from_contents(String::new(), " ".to_owned()).ok();
        source.map(|source| {
            let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
            let params = [(); 3].map(|()| Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 }));
            (span, params)
        })
    };
}

/// regorus' own function of that name, once the arguments are known to be harmless.
pub(super) fn stock(name: &str, args: &[Value]) -> Result<Value> {
    let (function, _) = BUILTINS.get(name).ok_or_else(|| anyhow!("there is no function `{name}`"))?;
    NOWHERE.with(|nowhere| {
        let (span, params) = nowhere.as_ref().ok_or_else(|| anyhow!("`{name}` cannot be called"))?;
        let params = params.get(..args.len()).ok_or_else(|| anyhow!("`{name}` has too many arguments"))?;
        // The place in its message is `NOWHERE`; the caller adds the true one.
        function(span, params, args, true)
            .map_err(|e| anyhow!(crate::policy::finding::Located::read(&e.to_string()).message))
    })
}

fn text_bytes(value: &Value) -> usize {
    if let Value::String(text) = value { text.len() } else { 0 }
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        _ => 0,
    }
}

pub(super) fn bounded(name: &str, size: usize, limit: usize, unit: &str) -> Result<()> {
    if size > limit {
        bail!("`{name}` may produce at most {limit} {unit}");
    }
    Ok(())
}
