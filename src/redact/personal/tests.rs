use std::time::Instant;

use serde_json::{Value, json};

use crate::redact::{HashKey, MARK, PersonalData, Redactor, Settings, Treatment};

fn with(treatment: Treatment) -> Redactor {
    let personal_data = PersonalData {
        email: treatment,
        phone: treatment,
        payment_card: treatment,
        iban: treatment,
        national_id: treatment,
    };
    let settings = Settings { personal_data, ..Settings::default() };
    Redactor::new(&settings, HashKey::new(&[7; 32]))
}

fn redacted(redactor: &Redactor, value: Value) -> (Value, Vec<String>) {
    let record = redactor.record(vec![("r", value)]).into_inner();
    assert!(record.edits.iter().all(|edit| edit.category == "personal-data"), "{:?}", record.edits);
    let edits = record.edits.iter().map(|edit| format!("{} {}", edit.path, edit.by)).collect();
    (record.roots.into_iter().next().unwrap().1, edits)
}

#[test]
fn each_kind_is_found_as_people_write_it() {
    let redactor = with(Treatment::Mask);
    for (rule, text, expected) in [
        ("email", "mail to Alice.O'Neill+x@mail.acme.example, please", "mail to [redacted], please"),
        ("email", "<bob_99@b-c.io>;?to=carol%40acme.example&x", "<[redacted]>;?to=[redacted]&x"),
        ("email", "mailto:a@b.co.", "mailto:[redacted]."),
        ("email", "an dörte@müller.example。", "an dö[redacted]。"),
        ("payment-card", "card 4111 1111 1111 1111 123", "card [redacted] 123"),
        ("payment-card", "4111-1111-1111-1111,5105105105105100", "[redacted],[redacted]"),
        ("payment-card", "amex 3782 822463 10005!", "amex [redacted]!"),
        ("payment-card", "pan=4222222222222 6011000990139424", "pan=[redacted] [redacted]"),
        ("payment-card", "?card=4111%201111%201111%201111&x", "?card=[redacted]&x"),
        ("payment-card", "q=%204111111111111111", "q=%20[redacted]"),
        ("payment-card", "7 4111111111111111 5", "7 [redacted] 5"),
        ("iban", "pay DE89 3704 0044 0532 0130 00 today", "pay [redacted] today"),
        ("iban", "gb82west12345698765432", "[redacted]"),
        ("iban", "(NL91ABNA0417164300)", "([redacted])"),
        ("national-id", "ssn 078-05-1120.", "ssn [redacted]."),
        ("national-id", "NINO AB 12 34 56 C and PX123456A", "NINO [redacted] and [redacted]"),
        ("phone", "call +44 20 7946 0958 now", "call [redacted] now"),
        (
            "phone",
            "tel:+15551234567, (555) 234-5678 or 555-234-5678",
            "tel:[redacted], [redacted] or [redacted]",
        ),
        ("phone", "+49 (0)30/901820", "[redacted]"),
    ] {
        let (result, edits) = redacted(&redactor, json!(text));
        assert_eq!(result, json!(expected), "{text}");
        assert_eq!(edits, [format!("/r builtin:{rule}")], "{text}");
    }
}

#[test]
fn what_only_looks_alike_is_left_alone() {
    let redactor = with(Treatment::Hash);
    for text in [
        "order 4111111111111112",
        "54111111111111111",
        "4111111111111111000000",
        "0.4111111111111111",
        "4111111111111111.5",
        "1700000000000 1763625600000 1763625600000000000",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "550e8400-e29b-4444-4111-111111111111",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "DE89 3704 0044 0532 0130 01",
        "git@github.com:acme/tools.git",
        "https://user@host.example/x",
        "logo@2x.png",
        "@scope/pkg@1.2.3",
        "foo@localhost @alice a@b @ b.c",
        "2026-11-20T07:00:00.000+01:00",
        "1.2.3+20260101123",
        "192.168.100.200:8080",
        "DE12 is a room, GB82 WEST 1234 5698 7654 33 is none",
        "000-12-3456 666-12-3456 900-12-3456 123-00-4567 1234-56-7890 078-05-11201",
        "GB123456A ab123456c AB123456E",
        "555-123-45678 1555-234-5678 123-456-7890",
        "+1 2 +12.5 +0123456789",
        "x = a+12345678901",
        "",
    ] {
        assert_eq!(redacted(&redactor, json!(text)), (json!(text), vec![]), "{text}");
    }
    for number in [json!(4_111_111_111_111_112_u64), json!(1.5), json!(-4_111_111_111_111_111_i64), json!(0)]
    {
        assert_eq!(redacted(&redactor, number.clone()), (number, vec![]));
    }
}

#[test]
fn numbers_names_and_json_in_strings_are_read_too() {
    let redactor = with(Treatment::Mask);
    let inner = "{\"note\":\"card:\\n4111111111111111\",\"to\":\"a\\u0040b.example\"}";
    let given = json!({"pan": 4_111_111_111_111_111_u64, "float": 4_111_111_111_111_111.0, "bob@acme.example": 1, "body": inner});
    let (result, edits) = redacted(&redactor, given);
    assert_eq!(
        result,
        json!({"pan": MARK, "float": MARK, "[redacted]": 1, "body": r#"{"note":"card:\n[redacted]","to":"[redacted]"}"#})
    );
    assert!(edits.contains(&"/r/body builtin:payment-card".to_owned()), "{edits:?}");
    assert!(edits.contains(&"/r/[redacted] builtin:email".to_owned()), "{edits:?}");
}

#[test]
fn hashes_correlate_across_spellings_and_are_stable() {
    let redactor = with(Treatment::Hash);
    let key = HashKey::new(&[7; 32]);
    let card = key.hash(b"4111111111111111");
    let given = json!([
        "4111 1111 1111 1111",
        "x 4111-1111-1111-1111",
        4_111_111_111_111_111_u64,
        "ALICE@Acme.example"
    ]);
    let (result, _) = redacted(&redactor, given);
    assert_eq!(result, json!([card, format!("x {card}"), card, key.hash(b"alice@acme.example")]));
    let record = redactor.record(vec![("r", result.clone())]).into_inner();
    assert_eq!((&record.roots[0].1, record.edits.len()), (&result, 0), "it is idempotent");
    let record = redactor.record(vec![("r", json!("b@c.example"))]).into_inner();
    assert_eq!(serde_json::to_value(&record.edits[0]).unwrap()["op"], json!("hash"));
}

#[test]
fn who_called_stays() {
    let redactor = with(Treatment::Mask);
    let who = "alice@acme.example";
    let record = redactor.record(vec![
        (
            "subject",
            json!({"type": "identity", "id": who, "properties": {"user": who, "claims": {"email": who}}}),
        ),
        ("context", json!({"arguments": {"to": who}, "caller": {"user": who}})),
        ("diagnostics", json!([{"policy_id": "p", "message": format!("{who} may not")}])),
        ("metadata", json!({"user": who, "user_agent": who})),
    ]);
    assert_eq!(
        record.get("subject"),
        Some(&json!({"type": "identity", "id": who, "properties": {"user": who, "claims": {"email": MARK}}}))
    );
    assert_eq!(record.get("context"), Some(&json!({"arguments": {"to": MARK}, "caller": {"user": who}})));
    assert_eq!(record.get("diagnostics").unwrap()[0]["message"], json!("[redacted] may not"));
    assert_eq!(record.get("metadata"), Some(&json!({"user": who, "user_agent": MARK})));
    assert!(redactor.is_secret("4111111111111111") && !redactor.is_secret("4111111111111112"));
    assert!(!Redactor::builtin().is_secret("4111111111111111"), "off unless switched on");
}

#[test]
fn hostile_long_texts_cost_time_in_proportion() {
    let redactor = with(Treatment::Mask);
    for piece in ["a@", "4111 ", "1", "+1-", "DE89", "555-", "A1", "%40", "@a.", "AB 12 ", "4111-1111-"] {
        let text = piece.repeat((1 << 20) / piece.len());
        let started = Instant::now();
        drop(redactor.record(vec![("r", json!(text))]));
        assert!(started.elapsed().as_secs() < 20, "{piece}: {:?}", started.elapsed());
    }
}
