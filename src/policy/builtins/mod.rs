//! Built-in functions of docket's own, which stand before regorus' of the same name.
//!
//! Four reasons to have one: regorus has none (`io.jwt.*`, `crypto.*`, `net.cidr_merge`); its answer must come from the
//! recorded call, so that replay is exact (`time.now_ns`, `rand.intn`, `uuid.rfc4122`); it is slow or wrong
//! (`regex.match`, `glob.match`, `strings.count`, `numbers.range_step`); or a few bytes of arguments can make it run or
//! allocate without bound, and the time limit cannot interrupt a built-in. All others cost time and memory linear in
//! what they are given, which the file and body limits bound. What stays unbounded are operators on numbers and values
//! that a policy grows step by step (`x * x` in a long chain, `==` on values that share their parts): these take an
//! author's intent, and no call can cause them.

mod addresses;
pub(super) mod bounds;
mod deprecated;
mod digests;
mod patterns;
mod tokens;

use std::cell::Cell;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use regorus::Value;
use ring::{digest, hmac};
use sha2::{Digest, Sha256};

use self::tokens::Algorithm;
use super::value::type_name;
use crate::call::Moment;

/// The functions defined here.
pub(super) const NAMES: [&str; 63] = [
    "array.concat",
    "array.flatten",
    "bits.lsh",
    "concat",
    "crypto.hmac.equal",
    "crypto.hmac.md5",
    "crypto.hmac.sha1",
    "crypto.hmac.sha256",
    "crypto.hmac.sha512",
    "crypto.md5",
    "crypto.sha1",
    "crypto.sha256",
    "glob.match",
    "graph.reachable_paths",
    "io.jwt.decode",
    "io.jwt.decode_verify",
    "io.jwt.verify_eddsa",
    "io.jwt.verify_es256",
    "io.jwt.verify_es384",
    "io.jwt.verify_hs256",
    "io.jwt.verify_hs384",
    "io.jwt.verify_hs512",
    "io.jwt.verify_ps256",
    "io.jwt.verify_ps384",
    "io.jwt.verify_ps512",
    "io.jwt.verify_rs256",
    "io.jwt.verify_rs384",
    "io.jwt.verify_rs512",
    "json.is_valid",
    "json.marshal",
    "json.marshal_with_options",
    "json.match_schema",
    "json.patch",
    "json.verify_schema",
    "net.cidr_contains_matches",
    "net.cidr_expand",
    "net.cidr_intersects",
    "net.cidr_merge",
    "numbers.range",
    "numbers.range_step",
    "object.subset",
    "object.union",
    "object.union_n",
    "product",
    "rand.intn",
    "regex.find_all_string_submatch_n",
    "regex.find_n",
    "regex.match",
    "regex.replace",
    "regex.split",
    "replace",
    "split",
    "sprintf",
    "strings.count",
    "strings.replace_n",
    "time.now_ns",
    "units.parse",
    "units.parse_bytes",
    "uuid.rfc4122",
    "walk",
    "yaml.is_valid",
    "yaml.marshal",
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
        _ => deprecated::find(name).map(|(_, _, instead)| instead),
    }
}

/// Whether OPA's language as docket has it knows a function of this name, be it to refuse it.
pub(super) fn is_known(name: &str) -> bool {
    regorus::unstable::BUILTINS.contains_key(name) || arity(name).is_some() || refused(name).is_some()
}

/// The functions whose answer would come from outside, with the number of their arguments.
const OUTSIDE: [(&str, u8); 3] = [("http.send", 1), ("net.lookup_ip_addr", 1), ("opa.runtime", 0)];

/// The number of arguments of a function that is refused.
pub(super) fn refused_arity(name: &str) -> Option<u8> {
    let outside = OUTSIDE.iter().find(|(outside, _)| *outside == name).map(|(_, arity)| *arity);
    outside.or_else(|| deprecated::find(name).map(|(arity, ..)| arity))
}

/// A function whose answer would come from outside that a text calls.
pub(super) fn calls_outside(text: &str) -> Option<&'static str> {
    OUTSIDE.iter().map(|(name, _)| *name).find(|name| text.contains(&format!("{name}(")))
}

/// Gives tests what is refused elsewhere: functions of before OPA 1.0, and such as fail unless a test replaces them.
pub(super) fn extend_tests(engine: &mut regorus::Engine) -> Result<()> {
    for (name, arity) in OUTSIDE {
        let why = refused(name).unwrap_or_default();
        // regorus evaluates rules nobody asked for, so this may not fail a lenient test.
        let fail =
            move |_| answer(Err(anyhow!("`{name}` is refused: {why}; in a test, replace it by `with`")));
        engine.add_extension(name.to_owned(), arity, Box::new(fail))?;
    }
    for name in deprecated::NAMES {
        if let Some((arity, function, _)) = deprecated::find(name) {
            engine.add_extension(name.to_owned(), arity, Box::new(move |args| answer(function(&args))))?;
        }
    }
    Ok(())
}

/// The number of arguments of a function that regorus does not have.
pub(super) fn arity(name: &str) -> Option<u8> {
    find(name).map(|(arity, _)| arity)
}

/// Puts those of the functions above that are wanted before regorus' own.
pub(super) fn extend(engine: &mut regorus::Engine, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        if let Some((arity, function)) = find(name) {
            engine.add_extension(name.to_owned(), arity, Box::new(move |args| answer(function(&args))))?;
        }
    }
    Ok(())
}

/// An error is undefined where the evaluation is lenient; regorus does so for its own functions only.
fn answer(answer: Result<Value>) -> Result<Value> {
    match answer {
        Err(error) if LENIENT.get() && error.to_string() != TIME_IS_UP => Ok(Value::Undefined),
        answer => answer,
    }
}

/// Runs `evaluate` with failing functions undefined, as OPA has it by default.
pub(super) fn leniently<T>(evaluate: impl FnOnce() -> T) -> T {
    /// Restores what was there before, also when `evaluate` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            LENIENT.set(self.0);
        }
    }
    let _restore = Restore(LENIENT.replace(true));
    evaluate()
}

thread_local! {
    static LENIENT: Cell<bool> = const { Cell::new(false) };
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

/// Runs `evaluate` with an earlier deadline.
pub(super) fn until<T>(deadline: Instant, evaluate: impl FnOnce() -> T) -> T {
    /// Restores what was there before, also when `evaluate` panics.
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    let _restore = Restore(DEADLINE.replace(Some(deadline)));
    evaluate()
}

type Function = fn(&[Value]) -> Result<Value>;

fn find(name: &str) -> Option<(u8, Function)> {
    Some(match name {
        "array.concat" => (2, bounds::array_concat),
        "array.flatten" => (1, array_flatten),
        "bits.lsh" => (2, bounds::bits_lsh),
        "concat" => (2, bounds::concat),
        "crypto.hmac.equal" => (2, digests::hmac_equal),
        "crypto.hmac.md5" => (2, digests::hmac_md5),
        "crypto.hmac.sha1" => {
            (2, |args| digests::hmac("crypto.hmac.sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, args))
        }
        "crypto.hmac.sha256" => (2, |args| digests::hmac("crypto.hmac.sha256", hmac::HMAC_SHA256, args)),
        "crypto.hmac.sha512" => (2, |args| digests::hmac("crypto.hmac.sha512", hmac::HMAC_SHA512, args)),
        "crypto.md5" => (1, digests::md5),
        "crypto.sha1" => (1, |args| digests::digest("crypto.sha1", &digest::SHA1_FOR_LEGACY_USE_ONLY, args)),
        "crypto.sha256" => (1, |args| digests::digest("crypto.sha256", &digest::SHA256, args)),
        "glob.match" => (3, glob_match),
        "graph.reachable_paths" => (2, bounds::reachable_paths),
        "io.jwt.decode" => (1, tokens::decode),
        "io.jwt.decode_verify" => (2, tokens::decode_verify),
        "io.jwt.verify_eddsa" => (2, |args| tokens::verify("io.jwt.verify_eddsa", Algorithm::EdDsa, args)),
        "io.jwt.verify_es256" => (2, |args| tokens::verify("io.jwt.verify_es256", Algorithm::Es256, args)),
        "io.jwt.verify_es384" => (2, |args| tokens::verify("io.jwt.verify_es384", Algorithm::Es384, args)),
        "io.jwt.verify_hs256" => (2, |args| tokens::verify("io.jwt.verify_hs256", Algorithm::Hs256, args)),
        "io.jwt.verify_hs384" => (2, |args| tokens::verify("io.jwt.verify_hs384", Algorithm::Hs384, args)),
        "io.jwt.verify_hs512" => (2, |args| tokens::verify("io.jwt.verify_hs512", Algorithm::Hs512, args)),
        "io.jwt.verify_ps256" => (2, |args| tokens::verify("io.jwt.verify_ps256", Algorithm::Ps256, args)),
        "io.jwt.verify_ps384" => (2, |args| tokens::verify("io.jwt.verify_ps384", Algorithm::Ps384, args)),
        "io.jwt.verify_ps512" => (2, |args| tokens::verify("io.jwt.verify_ps512", Algorithm::Ps512, args)),
        "io.jwt.verify_rs256" => (2, |args| tokens::verify("io.jwt.verify_rs256", Algorithm::Rs256, args)),
        "io.jwt.verify_rs384" => (2, |args| tokens::verify("io.jwt.verify_rs384", Algorithm::Rs384, args)),
        "io.jwt.verify_rs512" => (2, |args| tokens::verify("io.jwt.verify_rs512", Algorithm::Rs512, args)),
        "json.is_valid" => (1, json_is_valid),
        "json.marshal" => (1, |args| bounds::printed("json.marshal", args)),
        "json.marshal_with_options" => (2, |args| bounds::printed("json.marshal_with_options", args)),
        "json.match_schema" => (2, |args| bounds::walked("json.match_schema", args)),
        "json.patch" => (2, |args| bounds::walked("json.patch", args)),
        "json.verify_schema" => (1, |args| bounds::walked("json.verify_schema", args)),
        "net.cidr_contains_matches" => (2, addresses::contains_matches),
        "net.cidr_expand" => (1, bounds::cidr_expand),
        "net.cidr_intersects" => (2, addresses::intersects),
        "net.cidr_merge" => (1, addresses::merge),
        "numbers.range" => (2, bounds::numbers_range),
        "numbers.range_step" => (3, bounds::numbers_range_step),
        "object.subset" => (2, |args| bounds::walked("object.subset", args)),
        "object.union" => (2, |args| bounds::walked("object.union", args)),
        "object.union_n" => (1, |args| bounds::walked("object.union_n", args)),
        "product" => (1, bounds::product),
        "rand.intn" => (2, rand_intn),
        "regex.find_all_string_submatch_n" => (3, regex_find_all),
        "regex.find_n" => (3, regex_find),
        "regex.match" => (2, regex_match),
        "regex.replace" => (3, regex_replace),
        "regex.split" => (2, regex_split),
        "replace" => (3, bounds::replace),
        "split" => (2, bounds::split),
        "sprintf" => (2, bounds::sprintf),
        "strings.count" => (2, strings_count),
        "strings.replace_n" => (2, bounds::strings_replace_n),
        "time.now_ns" => (0, time_now_ns),
        "units.parse" => (1, |args| bounds::units("units.parse", args)),
        "units.parse_bytes" => (1, |args| bounds::units("units.parse_bytes", args)),
        "uuid.rfc4122" => (1, uuid_rfc4122),
        "walk" => (1, |args| bounds::walked("walk", args)),
        "yaml.is_valid" => (1, |args| bounds::yaml("yaml.is_valid", args)),
        "yaml.marshal" => (1, |args| bounds::printed("yaml.marshal", args)),
        "yaml.unmarshal" => (1, |args| bounds::yaml("yaml.unmarshal", args)),
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

/// One level: items of arrays within the array take their place.
fn array_flatten(args: &[Value]) -> Result<Value> {
    let name = "array.flatten";
    let [items] = take(name, args)?;
    let Value::Array(items) = items else {
        bail!("`{name}` expects an array. Got {} instead", type_name(items))
    };
    let mut flat = Vec::with_capacity(items.len());
    for item in items.iter() {
        match item {
            Value::Array(inner) => flat.extend(inner.iter().cloned()),
            other => flat.push(other.clone()),
        }
        bounds::bounded(name, flat.len(), bounds::MAX_ITEMS, "items")?;
    }
    Ok(Value::from(flat))
}

/// What is no text is no JSON text either.
fn json_is_valid(args: &[Value]) -> Result<Value> {
    match take("json.is_valid", args)? {
        [Value::String(_)] => bounds::stock("json.is_valid", args),
        [_] => Ok(Value::from(false)),
    }
}

/// As Go's `strings.Count`: an empty needle is found once before each character and once at the end.
fn strings_count(args: &[Value]) -> Result<Value> {
    let [search, needle] = take("strings.count", args)?;
    let (search, needle) = (text("strings.count", search)?, text("strings.count", needle)?);
    Ok(Value::from(search.matches(needle).count()))
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
        bounds::bounded(name, out.len(), bounds::MAX_TEXT_BYTES, "bytes")?;
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

/// Fails once the call's time is up, in the words of regorus' own timer.
fn in_time() -> Result<()> {
    if DEADLINE.get().is_some_and(|deadline| Instant::now() > deadline) {
        bail!("{TIME_IS_UP}");
    }
    Ok(())
}

pub(super) fn take<'a, const N: usize>(name: &str, args: &'a [Value]) -> Result<&'a [Value; N]> {
    args.try_into().map_err(|_| anyhow!("`{name}` takes {N} arguments, not {}", args.len()))
}

pub(super) fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str> {
    match value {
        Value::String(text) => Ok(text),
        other => bail!("`{name}` expects string argument. Got {} instead", type_name(other)),
    }
}

pub(super) fn integer(name: &str, value: &Value) -> Result<i64> {
    value
        .as_i64()
        .map_err(|_| anyhow!("`{name}` expects an integer of 64 bits. Got {} instead", type_name(value)))
}

#[cfg(test)]
mod tests {
    use regorus::unstable::BUILTINS;

    use super::*;

    fn eval(call_id: u128, query: &str) -> Result<String> {
        let mut engine = regorus::Engine::new();
        extend(&mut engine, |_| true).unwrap();
        let moment = Moment { call_id: ulid::Ulid::from(call_id), time_ns: 42 };
        let deadline = Instant::now() + std::time::Duration::from_millis(100);
        let results = during(&moment, deadline, || engine.eval_query(query.to_owned(), false))?;
        Ok(crate::policy::value::to_json(&results.result[0].expressions[0].value).to_string())
    }

    #[test]
    fn every_name_has_its_function_and_regorus_arity_where_there_is_one() {
        for name in NAMES {
            let (arity, _) = find(name).unwrap();
            let stock = BUILTINS.get(name).map_or(arity, |(_, arity)| *arity);
            assert_eq!(stock, arity, "{name}");
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
    fn tokens_are_verified_with_the_calls_time() {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let token = |claims: &str| {
            let signed = format!("{}.{}", encode(b"{\"alg\":\"HS256\"}"), encode(claims.as_bytes()));
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
            format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
        };
        let verified = |claims: &str, constraints: &str| {
            let query = format!("io.jwt.decode_verify(\"{}\", {constraints})[0]", token(claims));
            eval(1, &query).map_err(|error| error.to_string())
        };
        // The call's time is 42 ns after the epoch.
        for (claims, constraints, expected) in [
            ("{}", "{\"secret\": \"secret\"}", "true"),
            ("{}", "{\"secret\": \"wrong\"}", "false"),
            ("{}", "{\"secret\": \"secret\", \"alg\": \"HS512\"}", "false"),
            ("{\"exp\": 1, \"nbf\": 0}", "{\"secret\": \"secret\"}", "true"),
            ("{\"exp\": 0}", "{\"secret\": \"secret\"}", "false"),
            ("{\"nbf\": 1}", "{\"secret\": \"secret\"}", "false"),
            ("{\"nbf\": 1}", "{\"secret\": \"secret\", \"time\": 2000000000}", "true"),
            ("{\"aud\": [\"a\", \"b\"]}", "{\"secret\": \"secret\", \"aud\": \"b\"}", "true"),
            ("{\"aud\": \"a\"}", "{\"secret\": \"secret\"}", "false"),
            ("{}", "{\"secret\": \"secret\", \"iss\": \"i\"}", "false"),
        ] {
            assert_eq!(verified(claims, constraints).unwrap(), expected, "{claims} {constraints}");
        }
        assert!(verified("{\"exp\": \"soon\"}", "{\"secret\": \"secret\"}").unwrap_err().contains("`exp`"));
        assert!(verified("{}", "{}").unwrap_err().contains("`cert` or `secret`"));
        assert!(
            verified("{}", "{\"secret\": \"x\", \"audience\": \"y\"}").unwrap_err().contains("`audience`")
        );
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

    /// Sixty parts that share what is in them: 2^30 values, in a few hundred bytes.
    #[test]
    fn shared_parts_cannot_make_large_results() {
        let nested = |text: &str| {
            let steps: Vec<String> =
                (1..30).map(|i| format!("a{i} := {}", text.replace('#', &format!("a{}", i - 1)))).collect();
            format!("a0 := {{\"x\": 1}}; {}", steps.join("; "))
        };
        let (arrays, objects) = (nested("[#, #]"), nested("{\"l\": #, \"r\": #}"));
        for (parts, call) in [
            (&arrays, "walk(a29)"),
            (&arrays, "yaml.marshal(a29)"),
            (&arrays, "json.match_schema(a29, {})"),
            (&objects, "json.verify_schema(a29)"),
            (&objects, "json.patch(a29, [])"),
            (&objects, "object.union(a29, a29)"),
            (&objects, "object.union_n([a29, a29])"),
            (&objects, "object.subset(a29, a29)"),
        ] {
            let error = eval(1, &format!("[x | {parts}; x := {call}]")).unwrap_err().to_string();
            assert!(error.contains("may "), "{call}: {error}");
        }
        let small = eval(1, "count([v | walk({\"a\": [1, {\"b\": 2}]}, [_, v])])").unwrap();
        assert_eq!(small, "5");
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
            "split(concat(\",\", [\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" | numbers.range(1, 50000)[_]]), \"\")",
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
