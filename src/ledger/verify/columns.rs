//! The columns of `payloads` that repeat members of the parts, read back without building the parts in memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::entry::PARTS;
use super::row::{FIRST_COLUMN, Fields};

/// Part, and its columns with the member each repeats: in the order of the columns.
const REPEATED: [(&str, &[(&str, &str)]); 4] = [
    ("metadata", &[("agent", "agent"), ("user", "user"), ("team", "team"), ("server", "server")]),
    ("subject", &[("subject_id", "id")]),
    ("action", &[("action_name", "name")]),
    ("resource", &[("resource_type", "type"), ("resource_id", "id")]),
];

/// The members any column repeats.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Repeated<'a> {
    #[serde(borrow)]
    agent: Text<'a>,
    #[serde(borrow)]
    user: Text<'a>,
    #[serde(borrow)]
    team: Text<'a>,
    #[serde(borrow)]
    server: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

impl<'a> Repeated<'a> {
    fn of(part: Option<&'a [u8]>) -> Result<Self, serde_json::Error> {
        match part {
            // Only an object has members.
            Some(bytes) if bytes.first() == Some(&b'{') => serde_json::from_slice(bytes),
            _ => Ok(Self::default()),
        }
    }

    fn member(&self, name: &str) -> Option<&str> {
        let text = match name {
            "agent" => &self.agent,
            "user" => &self.user,
            "team" => &self.team,
            "server" => &self.server,
            "id" => &self.id,
            "name" => &self.name,
            _ => &self.kind,
        };
        text.0.as_deref()
    }
}

/// Parts of each name that are remembered.
const REMEMBERED: usize = 64;

/// What parts said before. Subjects, actions and resources come again and again, and comparing bytes costs much less than
/// reading them. Each part has one place it may be remembered at.
#[derive(Debug)]
pub struct Memory([Vec<Said>; REPEATED.len()]);

impl Default for Memory {
    fn default() -> Self {
        Self(std::array::from_fn(|_| (0..REMEMBERED).map(|_| Said::default()).collect()))
    }
}

/// The place of a part: any function of its bytes does, and this one is cheap.
fn place(bytes: &[u8]) -> usize {
    let mixed = bytes.chunks_exact(8).fold(bytes.len() as u64, |mixed, chunk| {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    });
    usize::try_from(mixed % REMEMBERED as u64).unwrap_or(0)
}

/// The bytes of a part, and what its columns hold.
#[derive(Debug, Default)]
struct Said {
    part: Vec<u8>,
    members: Vec<Option<Vec<u8>>>,
}

/// Whether each column says what its part says.
pub fn check(
    fields: &Fields<'_>,
    parts: &[Option<&[u8]>; PARTS.len()],
    memory: &mut Memory,
) -> Result<(), String> {
    let mut next_column = FIRST_COLUMN;
    for ((part, columns), remembered) in REPEATED.into_iter().zip(&mut memory.0) {
        let bytes =
            PARTS.iter().position(|name| *name == part).and_then(|at| parts.get(at).copied().flatten());
        let first_column = next_column;
        next_column += columns.len();
        let offsets = first_column..next_column;
        let mut forgotten = Said::default();
        let said = remembered.get_mut(place(bytes.unwrap_or_default())).unwrap_or(&mut forgotten);
        let same_members = said.members.len() == columns.len()
            && offsets.clone().zip(&said.members).all(|(at, member)| fields.bytes(at) == member.as_deref());
        if same_members && bytes.is_some_and(|bytes| bytes == said.part) {
            continue;
        }
        let repeated = Repeated::of(bytes).map_err(|error| format!("part `{part}` is not JSON: {error}"))?;
        for (at, (column, member)) in offsets.clone().zip(columns) {
            if fields.bytes(at) != repeated.member(member).map(str::as_bytes) {
                return Err(format!("column `{column}` is not what part `{part}` says"));
            }
        }
        said.part.clear();
        said.part.extend_from_slice(bytes.unwrap_or_default());
        said.members.resize(columns.len(), None);
        for (at, member) in offsets.zip(&mut said.members) {
            match (fields.bytes(at), member) {
                (Some(text), Some(member)) => text.clone_into(member),
                (text, member) => *member = text.map(<[u8]>::to_vec),
            }
        }
    }
    Ok(())
}

/// A member that is a text; anything else counts as absent, as it does where the columns are filled.
#[derive(Debug, Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn members_are_read_as_they_are_written() {
        for part in [
            r#"{"agent":"a","user":"é\n","team":null,"server":3,"id":{"id":"x"},"name":["y"],"type":true,"other":1.5}"#,
            r#"{"id":"\u0041"}"#,
            r#"["a","b","c","d","e","f","g"]"#,
            r#""text""#,
            "{}",
        ] {
            let repeated = Repeated::of(Some(part.as_bytes())).unwrap();
            let value: Value = serde_json::from_str(part).unwrap();
            for (_, member) in REPEATED.into_iter().flat_map(|(_, columns)| columns) {
                assert_eq!(
                    repeated.member(member).map(str::to_owned),
                    value.get(member).and_then(Value::as_str).map(str::to_owned),
                    "{member} of {part}"
                );
            }
        }
        assert!(Repeated::of(Some(b"{")).is_err());
    }
}
