//! Strict JSON: what docket reads from strangers.
//!
//! `serde_json` keeps the last of two equal keys, so the bytes an upstream parses could mean something other than what a
//! policy saw. [`parse`] refuses duplicate keys, and bounds the nesting well below the 128 levels `serde_json` reads: what is
//! recorded is nested once more in every answer about it. It knows nothing of what the JSON means.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// Levels of nesting a stranger's JSON may have.
pub const MAX_LEVELS: u8 = 64;

/// Values a stranger's JSON may consist of: eight million bytes of `[],` would otherwise become hundreds of megabytes.
pub const MAX_VALUES: u32 = 500_000;

/// A JSON object as `serde_json` holds it.
pub type Object = Map<String, Value>;

/// Parses one JSON text (RFC 8259, UTF-8), refusing duplicate keys, trailing bytes, more than [`MAX_LEVELS`] levels and
/// more than [`MAX_VALUES`] values.
///
/// # Errors
/// `serde_json`'s error with line and column. The message of a duplicate key names the key.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let left = Cell::new(MAX_VALUES);
    let value = Strict { levels: MAX_LEVELS, left: &left }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Parses strictly, then reads the value as a `T`.
///
/// # Errors
/// As [`parse`], or the reason why the value is not a `T`.
pub fn parse_as<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_value(parse(bytes)?)
}

/// Reads one value with so many levels and values left.
#[derive(Clone, Copy)]
struct Strict<'a> {
    levels: u8,
    left: &'a Cell<u32>,
}

impl Strict<'_> {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1);
        let levels =
            levels.ok_or_else(|| E::custom(format_args!("nested more than {MAX_LEVELS} levels deep")))?;
        Ok(Self { levels, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom(format_args!("more than {MAX_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let (inner, mut items) = (self.inner()?, Vec::new());
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let (inner, mut object) = (self.inner()?, Object::new());
        while let Some(key) = access.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!("duplicate key `{key}`")));
            }
            let value = access.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_serde_json_on_what_is_unambiguous() {
        for text in
            ["null", "[1,-2,3.5,1e300]", r#"{"a":{"b":[true,"é\u0000"]},"c":{}}"#, "18446744073709551615"]
        {
            assert_eq!(
                parse(text.as_bytes()).unwrap(),
                serde_json::from_str::<Value>(text).unwrap(),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_two_parsers_could_read_differently() {
        let refused = |text: &[u8]| parse(text).unwrap_err().to_string();
        assert!(refused(br#"{"a":1,"a":2}"#).contains("duplicate key `a`"));
        assert!(refused(br#"[{"x":{"k":1,"\u006b":2}}]"#).contains("duplicate key `k`"));
        assert!(refused(b"{} {}").contains("trailing"));
        assert!(refused(&[b'"', 0xff, b'"']).contains("unicode"));
        assert!(refused("[".repeat(10_000).as_bytes()).contains("more than 64 levels"));
        assert!(refused(b"").contains("EOF"));
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert!(refused(nested(65).as_bytes()).contains("more than 64 levels"));
        let many = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(parse(many(500_000).as_bytes()).is_ok());
        assert!(refused(many(500_001).as_bytes()).contains("more than 500000 values"));
    }
}
