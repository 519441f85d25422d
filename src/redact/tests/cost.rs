//! What redaction costs whom a caller means harm: never more than in proportion to what was sent.

use std::time::Duration;

use super::*;

/// Redacts values of growing size: four times as much must not take anything like sixteen times as long. Measured again where
/// it seems to, since the machine may be busy with something else.
fn grows_in_proportion(name: &str, redactor: &Redactor, size: usize, make: &dyn Fn(usize) -> Value) {
    const TRIES: usize = 5;
    let spent = |size: usize| {
        let value = make(size);
        let started = Instant::now();
        let record = redactor.record(vec![("r", value)]);
        let spent = started.elapsed();
        assert!(record.edited("r"), "{name}");
        spent
    };
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let (few, many) = (spent(size), spent(4 * size));
        if many < 8 * few + Duration::from_millis(50) {
            return;
        }
        seen.push((few, many));
    }
    panic!("{name}, {size} and four times that: {seen:?}");
}

fn list(size: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..size).map(item).collect()
}

/// A name that is an access key.
fn key(n: usize) -> String {
    format!("AKIA{n:016}")
}

#[test]
fn one_text_costs_time_in_proportion() {
    let cases: [(&str, &dyn Fn(usize) -> String); 7] = [
        ("encoded names in values", &|size| "p%61ssword=".repeat(size / 11)),
        ("encoded names of paths", &|size| "%70wd=/".repeat(size / 7)),
        ("encoded headers", &|size| "%61uthorization=bearer ".repeat(size / 23)),
        ("encoded names before commas", &|size| "p%61ssword=".repeat(size / 500) + &",".repeat(size)),
        ("brackets behind a value", &|size| format!("password=x{}", ")".repeat(size))),
        ("encoded names before brackets", &|size| "p%61ssword=".repeat(size / 11) + &")".repeat(size)),
        ("findings in one text", &|size| "password=sw0rdfish ".repeat(size / 19)),
    ];
    for (name, make) in cases {
        grows_in_proportion(name, redactor(), 100_000, &|size| json!({"a": make(size)}));
    }
    let pairs = |size: usize| json!({"password": format!("{}=", "; ".repeat(size / 2))});
    grows_in_proportion("pairs of a cookie", redactor(), 400_000, &pairs);
}

#[test]
fn names_of_members_cost_time_in_proportion() {
    let object = |size: usize, name: &dyn Fn(usize) -> String| -> Value {
        (0..size).map(|n| (name(n), Value::from(1))).collect::<Map<_, _>>().into()
    };
    grows_in_proportion("secret names", redactor(), 1000, &|size| object(size, &key));
    grows_in_proportion("secret names that give one", redactor(), 1000, &|size| {
        let keys = list(size, |n| key(n).into());
        json!({"p": {"password": keys}, "o": object(size, &|n| key(n) + "x")})
    });
    grows_in_proportion("names below what was renamed", redactor(), 1000, &|size| {
        let keys = list(size, |n| format!("sw0rd-{n}-fish").into());
        let below = list(size, |n| json!({format!("sw0rd-{n}-fish"): {"password": "whalebone"}}));
        json!({"p": {"password": keys}, "o": below})
    });
    let personal_data = PersonalData { email: Treatment::Mask, ..PersonalData::default() };
    let settings = Settings { personal_data, ..Settings::default() };
    let personal = Redactor::new(&settings, HashKey::new(&[7; 32]));
    grows_in_proportion("addresses", &personal, 1000, &|size| {
        object(size, &|n| format!("u{n}@acme.example"))
    });
}

#[test]
fn edits_cost_time_in_proportion() {
    grows_in_proportion("images", redactor(), 4000, &|size| {
        list(size, |_| json!({"type": "image", "data": "AA"}))
    });
    grows_in_proportion("passwords", redactor(), 4000, &|size| {
        list(size, |n| json!({"password": format!("{n}-x9")}))
    });
    // The name is in the pointer of each.
    grows_in_proportion(
        "edits below a long name",
        redactor(),
        40_000,
        &|size| json!({"n".repeat(size): list(size / 20, |_| json!({"password": "x9"}))}),
    );
    grows_in_proportion(
        "JSON below a long name",
        redactor(),
        40_000,
        &|size| json!({"n".repeat(size): list(size / 20, |_| r#"{"password":"x9"}"#.into())}),
    );
    grows_in_proportion(
        "JSON with many edits below a long name",
        redactor(),
        40_000,
        &|size| json!({"n".repeat(size): list(size / 20, |_| json!({"password": "x9"})).to_string()}),
    );
    grows_in_proportion(
        "images below a long name",
        redactor(),
        40_000,
        &|size| json!({"n".repeat(size): list(size / 20, |_| json!({"type": "image", "data": "AA"}))}),
    );
}

#[test]
fn edits_beyond_a_bound_are_folded_and_everything_is_redacted_all_the_same() {
    let many = |secret: &str| list(MAX_EDITS + 500, |n| json!({"password": format!("{secret}{n}")}));
    let other = json!([{"token": "whalebone-1"}, format!("AKIA{}", "Q7".repeat(8)), r#"{"secret":"x"}"#]);
    let record = redactor().record(vec![("a", many("swordfish-")), ("b", other), ("c", json!("plain"))]);
    assert!(!format!("{:?}", record.as_ref().roots).contains("fish"));
    let edits = record.edits();
    assert_eq!(edits[MAX_EDITS - 1].path, format!("/a/{}/password", MAX_EDITS - 1));
    let folded: Vec<String> =
        edits[MAX_EDITS..].iter().map(|edit| format!("{} {}", edit.path, edit.by)).collect();
    assert_eq!(folded, ["/a builtin:key-name", "/b builtin:aws-access-key-id", "/b builtin:key-name"]);
    assert!(record.edited("a") && record.edited("b") && !record.edited("c"));
    // The list is of bounded length in bytes as well.
    let record = redactor().record(vec![("r", json!({"n".repeat(9000): many("x")}))]);
    let bytes: usize = record.edits().iter().map(|edit| edit.path.len()).sum();
    assert!(bytes < 200_000 && record.edits().iter().any(|edit| edit.path == "/r"), "{bytes}");
}

#[test]
fn no_path_tells_a_name_however_many_were_renamed() {
    let names = list(2000, |n| format!("sw0rd-{n}-fish").into());
    let below = list(2000, |n| json!({format!("sw0rd-{n}-fish"): {"token": "whalebone-1"}}));
    let record = redactor().record(vec![("r", json!({"password": names, "rest": below}))]);
    assert!(!format!("{record:?}").contains("sw0rd"), "{:?}", record.edits());
    assert!(record.edited("r"));
}

#[test]
fn what_a_mask_put_into_content_that_went_is_no_edit_of_it() {
    let mut record = Record {
        roots: vec![("r", json!({"type": "image", "data": "AA", "password": MARK}))],
        edits: redactor()
            .record(vec![("r", json!({"data": {"password": "x"}, "password": "x"}))])
            .into_inner()
            .edits,
        ..Record::default()
    };
    record.edits[0].path = "/r/data".to_owned();
    bulk::shorten(&mut record, 2000);
    let edits: Vec<String> = record.edits.iter().map(|edit| format!("{} {}", edit.path, edit.by)).collect();
    assert_eq!(edits, ["/r/password builtin:key-name", "/r docket:size"]);
}
