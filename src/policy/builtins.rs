//! Built-in functions of docket's own, which stand before regorus' of the same name.
//!
//! Three reasons to replace one: its answer must come from the recorded call, so that replay is exact (`time.now_ns`,
//! `rand.intn`, `uuid.rfc4122`); it is slow or wrong (`regex.match`, `glob.match`, `strings.count`,
//! `numbers.range_step`); or a few bytes of arguments can make it run or allocate without bound, and the time limit
//! cannot interrupt a built-in. All others cost time and memory linear in what they are given, which the file and body
//! limits bound. What stays unbounded are operators on numbers and values that a policy grows step by step (`x * x` in
//! a long chain, `==` on values that share their parts): these take an author's intent, and no call can cause them.

use std::cell::Cell;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use regorus::Value;
use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use sha2::{Digest, Sha256};

use super::patterns;
use super::value::type_name;
use crate::call::Moment;

/// Bytes of text a built-in may produce.
const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;
/// Items of an array a built-in may produce.
const MAX_ITEMS: usize = 1_000_000;
/// Numbers `product` may multiply: its result grows with each.
const MAX_FACTORS: usize = 10_000;
/// Bits `bits.lsh` may shift by.
const MAX_SHIFT_BITS: u64 = 65_536;
/// Bytes of text `units.parse` reads.
const MAX_QUANTITY_BYTES: usize = 64;
/// Bytes of YAML: the parser needs time quadratic in its nesting.
const MAX_YAML_BYTES: usize = 64 * 1024;
/// Width or precision in a `sprintf` verb.
const MAX_WIDTH: usize = 10_000;
/// Steps `graph.reachable_paths` may take: a graph of 30 nodes can have 2^28 paths.
const MAX_PATH_STEPS: usize = 100_000;

/// The functions defined here.
pub(super) const NAMES: [&str; 27] = [
    "array.concat",
    "bits.lsh",
    "concat",
    "glob.match",
    "graph.reachable_paths",
    "json.marshal",
    "json.marshal_with_options",
    "net.cidr_expand",
    "numbers.range",
    "numbers.range_step",
    "product",
    "rand.intn",
    "regex.find_all_string_submatch_n",
    "regex.find_n",
    "regex.match",
    "regex.replace",
    "regex.split",
    "replace",
    "sprintf",
    "strings.count",
    "strings.replace_n",
    "time.now_ns",
    "units.parse",
    "units.parse_bytes",
    "uuid.rfc4122",
    "yaml.is_valid",
    "yaml.unmarshal",
];

/// Why a function is refused when a set is loaded, if it is.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    match name {
        "http.send" | "net.lookup_ip_addr" => Some(
            "a decision must not depend on the network, or it could not be replayed; put what it needs into data or the call",
        ),
        "opa.runtime" => {
            Some("a decision must not depend on the process that makes it, or it could not be replayed")
        }
        _ => None,
    }
}

/// The number of arguments of a function that regorus does not have.
pub(super) fn arity(name: &str) -> Option<u8> {
    find(name).map(|(arity, _)| arity)
}

/// Puts those of the functions above that are wanted before regorus' own.
pub(super) fn extend(engine: &mut regorus::Engine, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        if let Some((arity, function)) = find(name) {
            engine.add_extension(name.to_owned(), arity, Box::new(move |args| function(&args)))?;
        }
    }
    Ok(())
}

thread_local! {
    /// What the evaluation running on this thread may know of its circumstances.
    static MOMENT: Cell<Option<([u8; 16], i64)>> = const { Cell::new(None) };
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What regorus' timer says where it kept only the text of the error.
pub(super) const TIME_IS_UP: &str = "execution exceeded time limit";

/// Runs `evaluate` with `moment` as its clock and seed, until `deadline`.
pub(super) fn during<T>(moment: &Moment, deadline: Instant, evaluate: impl FnOnce() -> T) -> T {
    /// Restores what was there before, also when `evaluate` panics.
    struct Restore(Option<([u8; 16], i64)>, Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            MOMENT.set(self.0);
            DEADLINE.set(self.1);
        }
    }
    let moment = MOMENT.replace(Some((moment.call_id.to_bytes(), moment.time_ns)));
    let _restore = Restore(moment, DEADLINE.replace(Some(deadline)));
    evaluate()
}

type Function = fn(&[Value]) -> Result<Value>;

fn find(name: &str) -> Option<(u8, Function)> {
    Some(match name {
        "array.concat" => (2, array_concat),
        "bits.lsh" => (2, bits_lsh),
        "concat" => (2, concat),
        "glob.match" => (3, glob_match),
        "graph.reachable_paths" => (2, reachable_paths),
        "json.marshal" => (1, |args| printed("json.marshal", args)),
        "json.marshal_with_options" => (2, |args| printed("json.marshal_with_options", args)),
        "net.cidr_expand" => (1, cidr_expand),
        "numbers.range" => (2, numbers_range),
        "numbers.range_step" => (3, numbers_range_step),
        "product" => (1, product),
        "rand.intn" => (2, rand_intn),
        "regex.find_all_string_submatch_n" => (3, regex_find_all),
        "regex.find_n" => (3, regex_find),
        "regex.match" => (2, regex_match),
        "regex.replace" => (3, regex_replace),
        "regex.split" => (2, regex_split),
        "replace" => (3, replace),
        "sprintf" => (2, sprintf),
        "strings.count" => (2, strings_count),
        "strings.replace_n" => (2, strings_replace_n),
        "time.now_ns" => (0, time_now_ns),
        "units.parse" => (1, |args| units("units.parse", args)),
        "units.parse_bytes" => (1, |args| units("units.parse_bytes", args)),
        "uuid.rfc4122" => (1, uuid_rfc4122),
        "yaml.is_valid" => (1, |args| yaml("yaml.is_valid", args)),
        "yaml.unmarshal" => (1, |args| yaml("yaml.unmarshal", args)),
        _ => return None,
    })
}

fn time_now_ns(_: &[Value]) -> Result<Value> {
    let (_, time_ns) =
        MOMENT.get().ok_or_else(|| anyhow!("there is no call whose time `time.now_ns` could tell"))?;
    Ok(Value::from(time_ns))
}

fn rand_intn(args: &[Value]) -> Result<Value> {
    let [key, limit] = take("rand.intn", args)?;
    let key = text("rand.intn", key)?;
    let limit = integer("rand.intn", limit)?.unsigned_abs();
    let seed = seeded("rand.intn", &format!("{limit}/{key}"))?;
    let number = seed.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    Ok(Value::from(number.checked_rem(limit).unwrap_or(0)))
}

fn uuid_rfc4122(args: &[Value]) -> Result<Value> {
    let [key] = take("uuid.rfc4122", args)?;
    let seed = seeded("uuid.rfc4122", text("uuid.rfc4122", key)?)?;
    let number = seed.iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    // Version 4, variant 1 (RFC 9562 §5.4).
    let number = number & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    let uuid = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-");
    Ok(Value::from(uuid))
}

/// The same for the same call, function and argument, as OPA's cache has it within one query; unknown to the caller.
fn seeded(function: &str, argument: &str) -> Result<[u8; 32]> {
    let (call_id, _) =
        MOMENT.get().ok_or_else(|| anyhow!("there is no call that could seed `{function}`"))?;
    let mut hash = Sha256::new();
    hash.update(call_id);
    hash.update(function);
    hash.update([0]);
    hash.update(argument);
    Ok(hash.finalize().into())
}

fn regex_match(args: &[Value]) -> Result<Value> {
    let [pattern, value] = take("regex.match", args)?;
    let matches = patterns::regex_match(text("regex.match", pattern)?, text("regex.match", value)?);
    matches.map(Value::from).map_err(|error| anyhow!(error))
}

fn glob_match(args: &[Value]) -> Result<Value> {
    let name = "glob.match";
    let [pattern, delimiters, value] = take(name, args)?;
    let (pattern, value) = (text(name, pattern)?, text(name, value)?);
    let matches = match delimiters {
        Value::Null => patterns::glob_match(pattern, None, value),
        Value::Array(items) => {
            let items = items.iter().map(|item| text(name, item)).collect::<Result<Vec<_>>>()?;
            patterns::glob_match(pattern, Some(&items), value)
        }
        other => bail!("`{name}` expects an array of strings or null. Got {} instead", type_name(other)),
    };
    matches.map(Value::from).map_err(|error| anyhow!(error))
}

/// As Go's `strings.Count`: an empty needle is found once before each character and once at the end.
fn strings_count(args: &[Value]) -> Result<Value> {
    let [search, needle] = take("strings.count", args)?;
    let (search, needle) = (text("strings.count", search)?, text("strings.count", needle)?);
    Ok(Value::from(search.matches(needle).count()))
}

fn numbers_range(args: &[Value]) -> Result<Value> {
    let [from, to] = take("numbers.range", args)?;
    range("numbers.range", from, to, 1)
}

fn numbers_range_step(args: &[Value]) -> Result<Value> {
    let [from, to, step] = take("numbers.range_step", args)?;
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

fn product(args: &[Value]) -> Result<Value> {
    bounded("product", args.first().map_or(0, length), MAX_FACTORS, "numbers")?;
    stock("product", args)
}

fn bits_lsh(args: &[Value]) -> Result<Value> {
    if args.get(1).and_then(|by| by.as_u64().ok()).is_some_and(|by| by > MAX_SHIFT_BITS) {
        bail!("`bits.lsh` may shift by at most {MAX_SHIFT_BITS} bits");
    }
    stock("bits.lsh", args)
}

/// An exponent of nine digits would be written out in full: hours for a few bytes that a call may bring.
fn units(name: &str, args: &[Value]) -> Result<Value> {
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

fn array_concat(args: &[Value]) -> Result<Value> {
    let items = args.iter().map(length).fold(0, usize::saturating_add);
    bounded("array.concat", items, MAX_ITEMS, "items")?;
    stock("array.concat", args)
}

fn cidr_expand(args: &[Value]) -> Result<Value> {
    let [cidr] = take("net.cidr_expand", args)?;
    let written = text("net.cidr_expand", cidr)?;
    if let Some((address, prefix)) = written.split_once('/') {
        let bits = if address.contains(':') { 128u32 } else { 32 };
        let hosts = bits.saturating_sub(prefix.parse().unwrap_or(bits));
        bounded("net.cidr_expand", 1usize.checked_shl(hosts).unwrap_or(usize::MAX), MAX_ITEMS, "addresses")?;
    }
    stock("net.cidr_expand", args)
}

fn concat(args: &[Value]) -> Result<Value> {
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

fn replace(args: &[Value]) -> Result<Value> {
    if let [Value::String(value), Value::String(old), Value::String(new)] = args {
        grown("replace", value, old.len(), new.len())?;
    }
    stock("replace", args)
}

/// All matches of a regex can take time quadratic in the text although each is linear, so the clock is read between
/// them. Otherwise as regorus has it: a regex that is none makes the call undefined.
fn regex_replace(args: &[Value]) -> Result<Value> {
    let name = "regex.replace";
    let [value, pattern, new] = take(name, args)?;
    let (value, pattern, new) = (text(name, value)?, text(name, pattern)?, text(name, new)?);
    let Ok(regex) = patterns::regex(pattern) else { return Ok(Value::Undefined) };
    let (mut out, mut after) = (String::with_capacity(value.len()), 0);
    for captures in regex.captures_iter(value) {
        in_time()?;
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(value.get(after..whole.start()).unwrap_or_default());
        captures.expand(new, &mut out);
        after = whole.end();
        bounded(name, out.len(), MAX_TEXT_BYTES, "bytes")?;
    }
    out.push_str(value.get(after..).unwrap_or_default());
    Ok(Value::from(out))
}

fn regex_split(args: &[Value]) -> Result<Value> {
    let [pattern, value] = take("regex.split", args)?;
    let (pattern, value) = (text("regex.split", pattern)?, text("regex.split", value)?);
    let regex = patterns::regex(pattern).map_err(|error| anyhow!(error))?;
    let parts = regex.split(value).map(|part| in_time().map(|()| Value::from(part)));
    Ok(Value::from(parts.collect::<Result<Vec<_>>>()?))
}

fn regex_find(args: &[Value]) -> Result<Value> {
    let [pattern, value, number] = take("regex.find_n", args)?;
    let (pattern, value) = (text("regex.find_n", pattern)?, text("regex.find_n", value)?);
    let number = usize::try_from(integer("regex.find_n", number)?).unwrap_or(usize::MAX);
    let regex = patterns::regex(pattern).map_err(|error| anyhow!(error))?;
    let found =
        regex.find_iter(value).take(number).map(|found| in_time().map(|()| Value::from(found.as_str())));
    Ok(Value::from(found.collect::<Result<Vec<_>>>()?))
}

fn regex_find_all(args: &[Value]) -> Result<Value> {
    let name = "regex.find_all_string_submatch_n";
    let [pattern, value, number] = take(name, args)?;
    let (pattern, value) = (text(name, pattern)?, text(name, value)?);
    let number = usize::try_from(integer(name, number)?).unwrap_or(usize::MAX);
    let regex = patterns::regex(pattern).map_err(|error| anyhow!(error))?;
    let found = regex.captures_iter(value).take(number).map(|captures| {
        in_time()?;
        let groups = captures.iter().map(|group| Value::from(group.map_or("", |group| group.as_str())));
        Ok(Value::from(groups.collect::<Vec<_>>()))
    });
    Ok(Value::from(found.collect::<Result<Vec<_>>>()?))
}

fn yaml(name: &str, args: &[Value]) -> Result<Value> {
    if args.first().is_some_and(|value| text_bytes(value) > MAX_YAML_BYTES) {
        bail!("`{name}` reads at most {MAX_YAML_BYTES} bytes; JSON may be larger");
    }
    stock(name, args)
}

/// Fails once the call's time is up, in the words of regorus' own timer.
fn in_time() -> Result<()> {
    if DEADLINE.get().is_some_and(|deadline| Instant::now() > deadline) {
        bail!("{TIME_IS_UP}");
    }
    Ok(())
}

fn strings_replace_n(args: &[Value]) -> Result<Value> {
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

fn sprintf(args: &[Value]) -> Result<Value> {
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
fn printed(name: &str, args: &[Value]) -> Result<Value> {
    let mut budget = MAX_TEXT_BYTES;
    if !args.iter().all(|arg| spend(arg, &mut budget)) {
        bail!("`{name}` may produce at most {MAX_TEXT_BYTES} bytes");
    }
    stock(name, args)
}

/// Takes what a value costs when written out from the budget; `false` once it is used up.
pub(super) fn spend(value: &Value, budget: &mut usize) -> bool {
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

fn reachable_paths(args: &[Value]) -> Result<Value> {
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
fn stock(name: &str, args: &[Value]) -> Result<Value> {
    let (function, _) = BUILTINS.get(name).ok_or_else(|| anyhow!("there is no function `{name}`"))?;
    NOWHERE.with(|nowhere| {
        let (span, params) = nowhere.as_ref().ok_or_else(|| anyhow!("`{name}` cannot be called"))?;
        let params = params.get(..args.len()).ok_or_else(|| anyhow!("`{name}` has too many arguments"))?;
        // The place in its message is `NOWHERE`; the caller adds the true one.
        function(span, params, args, true)
            .map_err(|e| anyhow!(super::finding::Located::read(&e.to_string()).message))
    })
}

fn take<'a, const N: usize>(name: &str, args: &'a [Value]) -> Result<&'a [Value; N]> {
    args.try_into().map_err(|_| anyhow!("`{name}` takes {N} arguments, not {}", args.len()))
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str> {
    match value {
        Value::String(text) => Ok(text),
        other => bail!("`{name}` expects string argument. Got {} instead", type_name(other)),
    }
}

fn integer(name: &str, value: &Value) -> Result<i64> {
    value
        .as_i64()
        .map_err(|_| anyhow!("`{name}` expects an integer of 64 bits. Got {} instead", type_name(value)))
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

fn bounded(name: &str, size: usize, limit: usize, unit: &str) -> Result<()> {
    if size > limit {
        bail!("`{name}` may produce at most {limit} {unit}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(call_id: u128, query: &str) -> Result<String> {
        let mut engine = regorus::Engine::new();
        extend(&mut engine, |_| true).unwrap();
        let moment = Moment { call_id: ulid::Ulid::from(call_id), time_ns: 42 };
        let deadline = Instant::now() + std::time::Duration::from_millis(100);
        let results = during(&moment, deadline, || engine.eval_query(query.to_owned(), false))?;
        Ok(super::super::value::to_json(&results.result[0].expressions[0].value).to_string())
    }

    #[test]
    fn every_name_has_its_function_and_regorus_arity() {
        for name in NAMES {
            let (arity, _) = find(name).unwrap();
            assert_eq!(BUILTINS.get(name).map(|(_, arity)| *arity), Some(arity), "{name}");
        }
    }

    #[test]
    fn answers() {
        for (query, expected) in [
            ("time.now_ns()", "42"),
            ("rand.intn(\"k\", 0)", "0"),
            ("rand.intn(\"k\", 1)", "0"),
            ("strings.count(\"cheese\", \"e\")", "3"),
            ("strings.count(\"ab\", \"\")", "3"),
            ("numbers.range(3, 1)", "[3,2,1]"),
            ("numbers.range_step(1, 6, 2)", "[1,3,5]"),
            ("numbers.range_step(6, 1, 2)", "[6,4,2]"),
            (
                "numbers.range(9223372036854775806, 9223372036854775807)",
                "[9223372036854775806,9223372036854775807]",
            ),
            ("concat(\",\", [\"a\", \"b\"])", "\"a,b\""),
            ("sprintf(\"%5d|%s|%v\", [7, \"x\", {1, 2}])", "\"    7|x|{1, 2}\""),
            ("replace(\"aXa\", \"X\", \"-\")", "\"a-a\""),
            ("regex.replace(\"foo bar\", `(\\w)o+`, \"<$1>\")", "\"<f> bar\""),
            ("regex.split(`,\\s*`, \"a, b,c\")", "[\"a\",\"b\",\"c\"]"),
            ("regex.find_n(`a.`, \"abacad\", 2)", "[\"ab\",\"ac\"]"),
            (
                "regex.find_all_string_submatch_n(`a(x)?(.)`, \"abaxc\", -1)",
                "[[\"ab\",\"\",\"b\"],[\"axc\",\"x\",\"c\"]]",
            ),
            ("array.concat([1], [2])", "[1,2]"),
            ("bits.lsh(1, 4)", "16"),
            ("product([2, 3])", "6"),
            ("units.parse(\"5Mi\") + units.parse_bytes(\"1e2K\")", "5342880"),
            ("net.cidr_expand(\"10.0.0.0/30\")", "[\"10.0.0.0\",\"10.0.0.1\",\"10.0.0.2\",\"10.0.0.3\"]"),
            ("json.marshal({\"a\": 1})", "\"{\\\"a\\\":1}\""),
        ] {
            assert_eq!(eval(1, query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn chance_comes_from_the_call_alone() {
        let query = "[rand.intn(\"a\", 1000000), rand.intn(\"a\", 1000000), rand.intn(\"b\", 1000000)]";
        let numbers: Vec<u64> = serde_json::from_str(&eval(1, query).unwrap()).unwrap();
        assert!(numbers[0] == numbers[1] && numbers[0] != numbers[2]);
        assert_eq!(eval(1, query).unwrap(), eval(1, query).unwrap());
        assert_ne!(eval(1, query).unwrap(), eval(2, query).unwrap());
        let uuid = eval(1, "uuid.rfc4122(\"k\")").unwrap();
        assert!(uuid.len() == 38 && &uuid[15..16] == "4" && "89ab".contains(&uuid[20..21]), "{uuid}");
    }

    #[test]
    fn small_arguments_cannot_make_large_results() {
        for query in [
            "numbers.range(1, 1000000000)",
            "numbers.range(-9223372036854775808, 9223372036854775807)",
            "numbers.range_step(1, 1000000000, 2)",
            "numbers.range_step(1, 2, 0)",
            "net.cidr_expand(\"10.0.0.0/1\")",
            "net.cidr_expand(\"::/0\")",
            "bits.lsh(1, 4000000000)",
            "regex.replace(concat(\"\", [\"a\" | numbers.range(1, 50000)[_]]), \"a*b|a\", \"b\")",
            "regex.split(\"a*b|a\", concat(\"\", [\"a\" | numbers.range(1, 50000)[_]]))",
            "yaml.unmarshal(concat(\"\", [\"[\" | numbers.range(1, 100000)[_]]))",
            "sprintf(\"%1000000000d\", [1])",
            "sprintf(\"%99999999999999999999d\", [1])",
            "product(numbers.range(1, 100000))",
            "units.parse(\"1e999999999\")",
            "units.parse_bytes(\"1e+999999999K\")",
            "graph.reachable_paths({x: [y | some y in numbers.range(1, 30); y > x] | some x in numbers.range(1, 30)}, [1])",
            "json.marshal([x | a := numbers.range(1, 1000); b := [a | some i in a], c := [b | some i in a]; some i in a; x := c])",
        ] {
            assert!(eval(1, query).is_err(), "{query}");
        }
    }
}
