//! The configuration as the ledger keeps it: what was in force at a start, key by key, so that the next start can say what
//! changed.
//!
//! Secrets are not in it: of a server's headers and an agent's token there is a fingerprint, which shows a change and nothing
//! else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::raw::Raw;
use crate::digest::sha256;
use crate::json::Object;

/// More than this is kept as length and digest, in bytes: an entry is no place for thousands of agents.
const MAX_BYTES: usize = 32 << 10;

/// The section that has a table for each server.
const SERVERS: &str = "servers";

/// Every setting with its value, by its key as a configuration writes it: `data.listen`.
#[must_use]
pub fn settings(written: &Raw, fingerprint: impl Fn(&[u8]) -> String) -> Value {
    let mut flat = Object::new();
    let mut written = json!(written);
    // Under names that no rule takes for a credential's.
    for (section, secret) in [(SERVERS, "headers"), ("agents", "token_sha256")] {
        let tables = written.get_mut(section).and_then(Value::as_object_mut);
        for table in tables.into_iter().flatten().filter_map(|(_, table)| table.as_object_mut()) {
            if let Some(secret) = table.remove(secret) {
                if let Some(headers) = secret.as_object() {
                    table.insert("added_headers".into(), headers.keys().cloned().collect());
                }
                table.insert("fingerprint".into(), fingerprint(secret.to_string().as_bytes()).into());
            }
        }
    }
    flatten(&written, &mut Vec::new(), &mut |path, value| drop(flat.insert(path.join("."), value)));
    let whole = Value::Object(flat);
    let bytes = whole.to_string().into_bytes();
    if bytes.len() > MAX_BYTES { json!({"length": bytes.len(), "sha256": sha256(&bytes)}) } else { whole }
}

fn flatten<'a>(value: &'a Value, path: &mut Vec<&'a str>, put: &mut impl FnMut(&[&str], Value)) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                path.push(name);
                flatten(value, path, put);
                path.pop();
            }
        }
        value => put(path, value.clone()),
    }
}

/// One change from a start to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `config.changed`, or `server.added`, `server.updated`, `server.removed`.
    pub event_type: &'static str,
    /// What the entry says: `before` and `after` with the settings that differ, and the `server`.
    pub metadata: Value,
}

/// What differs between the settings of two starts: one change for each server, and one for everything else.
#[must_use]
pub fn changes(before: &Object, after: &Object) -> Vec<Change> {
    // By server; none for everything else.
    let mut sides: BTreeMap<Option<&str>, (Object, Object)> = BTreeMap::new();
    let differing = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
    for key in differing {
        let (old, new) = sides.entry(server_of(key, before, after)).or_default();
        old.extend(before.get(key).map(|value| (key.clone(), value.clone())));
        new.extend(after.get(key).map(|value| (key.clone(), value.clone())));
    }
    let has = |settings: &Object, name: &str| settings.contains_key(&format!("{SERVERS}.{name}.url"));
    let change = |(server, (old, new)): (Option<&str>, (Object, Object))| match server {
        None => Change { event_type: "config.changed", metadata: json!({"before": old, "after": new}) },
        Some(name) => Change {
            event_type: match (has(before, name), has(after, name)) {
                (false, _) => "server.added",
                (true, false) => "server.removed",
                (true, true) => "server.updated",
            },
            metadata: json!({"server": name, "before": old, "after": new}),
        },
    };
    sides.into_iter().map(change).collect()
}

/// The server a key is about. A name may have dots: it ends where its `url` is known to be.
fn server_of<'a>(key: &'a str, before: &Object, after: &Object) -> Option<&'a str> {
    let rest = key.strip_prefix(SERVERS)?.strip_prefix('.')?;
    let ends = rest.rmatch_indices('.').map(|(at, _)| at);
    let mut names = ends.filter_map(|end| rest.get(..end));
    names.find(|name| {
        let url = format!("{SERVERS}.{name}.url");
        before.contains_key(&url) || after.contains_key(&url)
    })
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Toml};

    use super::*;

    fn written(toml: &str) -> Object {
        let raw: Raw = Figment::from(Toml::string(toml)).extract().unwrap();
        let told = settings(&raw, |bytes| format!("print of {}", bytes.len()));
        told.as_object().unwrap().clone()
    }

    #[test]
    fn servers_have_changes_of_their_own_and_secrets_are_not_told() {
        let before = written(
            "[servers.a]\nurl = \"http://x/1\"\nheaders = { authorization = \"hush\" }\n[servers.gone]\nurl = \"http://x\"\n\
             [agents.bot]\ntoken_sha256 = \"00\"\n",
        );
        let after = written(
            "data.max_connections = 7\n[servers.a]\nurl = \"http://x/1\"\nheaders = { authorization = \"silence\" }\n\
             [servers.\"new.one\"]\nurl = \"http://y\"\n[agents.bot]\ntoken_sha256 = \"0011\"\n",
        );
        let told = changes(&before, &after);
        let kinds: Vec<&str> = told.iter().map(|change| change.event_type).collect();
        assert_eq!(kinds, ["config.changed", "server.updated", "server.removed", "server.added"]);
        assert_eq!(
            told[0].metadata,
            json!({
                "before": {"data.max_connections": 1024, "agents.bot.fingerprint": "print of 4"},
                "after": {"data.max_connections": 7, "agents.bot.fingerprint": "print of 6"},
            })
        );
        assert_eq!(told[1].metadata["after"], json!({"servers.a.fingerprint": "print of 27"}));
        assert_eq!(told[2].metadata["server"], "gone");
        assert_eq!(told[3].metadata["server"], "new.one");
        assert_eq!(told[3].metadata["before"], json!({}));
        assert!(changes(&after, &after).is_empty());
    }

    #[test]
    fn what_is_too_much_is_a_digest_which_shows_a_change_too() {
        let agents = |token: &str| {
            let one = |number| format!("[agents.a{number}]\ntoken_sha256 = \"{token}\"\n");
            written(&(0..500).map(one).collect::<String>())
        };
        let (one, other) = (agents("00"), agents("0000"));
        assert_eq!(one.keys().collect::<Vec<_>>(), ["length", "sha256"]);
        assert_eq!(changes(&one, &other)[0].event_type, "config.changed");
    }
}
