//! Records made by chance: secrets planted in every position, and values without a plan.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// `SplitMix64`: the same records every time, on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    fn word(&mut self, n: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut word: String = (0..n).map(|_| char::from(LETTERS[self.roll(62)])).collect();
        word.replace_range(0..4, "q7Zx");
        word
    }

    /// A secret and a value or text that carries it in a way that gives it away.
    fn planted(&mut self) -> (String, Value) {
        let name = self.pick(&[
            "password",
            "db_password",
            "apiKey",
            "X-Api-Key",
            "client_secret",
            "Authorization",
            "token",
        ]);
        let plain = self.word(12);
        match self.roll(12) {
            0 => (plain.clone(), json!({ name: plain })),
            1 => (plain.clone(), json!({ name: [1, {"v": plain}] })),
            2 => {
                let secret = format!("ghp_{}", self.word(36));
                (secret.clone(), json!(format!("use {secret} now")))
            }
            3 => {
                let secret = format!("sk-ant-api03-{}", self.word(80));
                (secret.clone(), json!([secret, 1]))
            }
            4 => (plain.clone(), json!(format!("postgres://app:{plain}@db.internal:5432/app"))),
            5 => (
                plain.clone(),
                json!(format!("cd /x && {}={plain} ./run", self.pick(&["PASSWORD", "API_KEY", "TOKEN"]))),
            ),
            6 => (plain.clone(), json!(format!("https://x.example/cb?page=1&access_token={plain}"))),
            7 => {
                let secret = self.word(40);
                (secret.clone(), json!(format!("Authorization: Bearer {secret}")))
            }
            8 => {
                let secret = format!("eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}", self.word(30), self.word(43));
                (secret.clone(), json!({ secret: "as a name" }))
            }
            9 => {
                let number = 10_000_000 + self.roll(89_999_999);
                (number.to_string(), json!({ "secret": number }))
            }
            10 => (plain.clone(), json!(["cmd", "--password", plain])),
            _ => (plain.clone(), json!([{"name": "GITHUB_TOKEN", "value": plain}])),
        }
    }

    /// Buries a value: in members, items and strings of JSON.
    fn buried(&mut self, mut value: Value) -> Value {
        for _ in 0..self.roll(7) {
            value = match self.roll(4) {
                0 => {
                    json!({"path": "/srv/data", self.pick(&["body", "a/b", "x~y", "options", "0"]): value, "n": 3})
                }
                1 => json!(["first", value, null]),
                2 => Value::String(value.to_string()),
                _ => json!({"arguments": {"content": value, "mode": "rw"}, "limit": 20}),
            };
        }
        value
    }
}

#[test]
fn no_planted_secret_survives_in_a_thousand_records() {
    let mut dice = Dice(7);
    for n in 0..1000 {
        let (secret, carrier) = dice.planted();
        let (other, second) = dice.planted();
        let (first_root, second_root) = (dice.buried(carrier), dice.buried(second));
        let message = format!("policy says: `{secret}` is not allowed, nor \"{other}\"");
        let roots = vec![
            ("subject", json!({"id": "billing-bot"})),
            ("resource", if dice.roll(2) == 0 { second_root.clone() } else { json!(null) }),
            ("context", json!({"arguments": first_root, "more": second_root})),
            ("diagnostics", json!([{"message": message, "data": {"got": secret, "list": [other.clone()]}}])),
            ("metadata", json!({"user_agent": "agent/1", "echo": json!({"v": message}).to_string()})),
        ];
        let before = serde_json::to_string(&roots).unwrap();
        let record = redactor().record(roots).into_inner();
        let after = format!(
            "{}{}",
            serde_json::to_string(&record.roots).unwrap(),
            serde_json::to_string(&record.edits).unwrap()
        );
        assert!(before.contains(&secret) && before.contains(&other), "nothing was planted in {n}");
        assert!(!after.contains(&secret), "{n}: {secret}\n{before}\n{after}");
        assert!(!after.contains(&other), "{n}: {other}\n{before}\n{after}");
        assert!(
            after.contains("billing-bot") && after.contains("agent/1") && after.contains("is not allowed"),
            "{after}"
        );
        for edit in &record.edits {
            let rest = edit.path.split('/').nth(1).unwrap();
            let (_, root) = record.roots.iter().find(|(name, _)| *name == rest).unwrap();
            assert!(root.pointer(&edit.path[rest.len() + 1..]).is_some(), "{} does not resolve", edit.path);
        }
        let again = redactor().record(record.roots.clone()).into_inner();
        assert_eq!(
            (&again.roots, again.edits.len()),
            (&record.roots, 0),
            "not idempotent: {:?}",
            again.edits
        );
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        "[ -~]{0,24}",
        any::<String>(),
        "(password|token|apiKey|Authorization|--secret|pwd)[\"']?( ?[=:] ?| )[\"'\\\\]{0,2}[a-z0-9A-Z]{0,12}[\"'\\\\]{0,2}",
        "[a-z]{1,4}://[a-z]{0,3}:[a-z0-9@/]{0,6}@?[a-z]{0,3}",
        "[{\\[](\"[a-z]{0,3}\":)?(\"[a-z]{0,9}\"|1|null)[}\\]]",
    ];
    let names = prop_oneof!["[a-z]{0,4}", "(db_)?password", "token", "ghp_[a-zA-Z0-9]{36}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner.clone(), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            inner.prop_map(|value| Value::String(value.to_string())),
        ]
    })
}

/// Every place of `after` that differs from `before` must be at or below the path of an edit.
fn explained(before: &Value, after: &Value, path: &str, edits: &[Edit]) -> Result<(), String> {
    if before == after || edits.iter().any(|edit| edit.path == path) {
        return Ok(());
    }
    match (before, after) {
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let mut pairs = old.iter().zip(new).enumerate();
            pairs.try_for_each(|(i, (old, new))| explained(old, new, &format!("{path}/{i}"), edits))
        }
        (Value::Object(old), Value::Object(new)) if old.len() == new.len() => {
            new.iter().try_for_each(|(name, new)| {
                let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                match old.get(name) {
                    Some(old) => explained(old, new, &path, edits),
                    // A new name is one with a mark in it, and an edit says so.
                    None if name.contains(MARK) && edits.iter().any(|edit| edit.path == path) => Ok(()),
                    None => Err(path),
                }
            })
        }
        _ => Err(path.to_owned()),
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_nothing_changes_without_an_edit(value in any_value()) {
        let record = redactor().record(vec![("r", value.clone())]).into_inner();
        prop_assert_eq!(explained(&value, &record.roots[0].1, "/r", &record.edits), Ok(()));
        prop_assert_eq!(record.edits.is_empty(), value == record.roots[0].1);
    }
}
