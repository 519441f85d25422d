//! Every value rule on what it must find and on what only looks like it. Credentials are put together at run time, so
//! that no scanner takes this file for a leak.

use super::*;

fn masked_by_rule(values: &Values, text: &str) -> (String, Vec<&'static str>) {
    let findings = values.find(text, values.scan(text));
    (masked(text, &findings), findings.iter().map(|finding| finding.rule).collect())
}

/// `n` characters of letters and digits.
fn word(n: usize) -> String {
    "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY".chars().cycle().take(n).collect()
}

fn upper(n: usize) -> String {
    word(n).to_uppercase()
}

fn lower_hex(n: usize) -> String {
    "0a1b2c3d4e5f6789".chars().cycle().take(n).collect()
}

#[test]
fn each_rule_finds_its_own() {
    let values = Values::compile(&Settings::default()).unwrap();
    let pem = |kind: &str| {
        format!(
            "-----BEGIN {kind}PRIVATE KEY-----\n{}\n{}\n-----END {kind}PRIVATE KEY-----",
            word(64),
            word(20)
        )
    };
    let jwt = format!("eyJ{}.eyJ{}.{}", word(20), word(30), word(43));
    let cases = [
        ("private-key", pem("")),
        ("private-key", pem("RSA ")),
        ("private-key", pem("EC ").replace('\n', "\\n")),
        ("private-key", format!("AGE-SECRET-KEY-1{}", upper(58))),
        ("jwt", jwt.clone()),
        ("jwt", format!("eyJ{}..{}.{}.{}", word(20), word(16), word(40), word(22))),
        ("aws-access-key-id", format!("AKIA{}", upper(16))),
        ("aws-access-key-id", format!("ASIA{}", upper(16))),
        ("gcp-api-key", format!("AIza{}", word(35))),
        ("github-token", format!("ghp_{}", word(36))),
        ("github-token", format!("gho_{}", word(36))),
        ("github-token", format!("ghu_{}", word(36))),
        ("github-token", format!("ghs_{}", word(36))),
        ("github-token", format!("ghr_{}", word(76))),
        ("github-token", format!("github_pat_{}_{}", word(22), word(59))),
        ("gitlab-token", format!("glpat-{}", word(20))),
        ("slack-token", format!("xoxb-1234567890-1234567890-{}", word(24))),
        ("slack-token", format!("xoxp-{}", word(40))),
        ("slack-token", format!("xoxc-{}", word(40))),
        ("slack-token", format!("xoxd-{}", word(40))),
        ("grafana-token", format!("glsa_{}_{}", word(32), lower_hex(8))),
        ("linear-key", format!("lin_api_{}", word(40))),
        ("slack-token", format!("xapp-1-{}", word(40))),
        ("stripe-key", format!("sk_live_{}", word(24))),
        ("stripe-key", format!("rk_live_{}", word(24))),
        ("stripe-key", format!("sk_test_{}", word(24))),
        ("stripe-key", format!("whsec_{}", word(32))),
        ("anthropic-key", format!("sk-ant-api03-{}", word(93))),
        ("openai-key", format!("sk-{}", word(48))),
        ("openai-key", format!("sk-proj-{}", word(120))),
        ("openai-key", format!("sk-{}", lower_hex(32))),
        ("npm-token", format!("npm_{}", word(36))),
        ("pypi-token", format!("pypi-AgEIcHlwaS5vcmc{}", word(60))),
        ("sendgrid-key", format!("SG.{}.{}", word(22), word(43))),
        ("google-oauth-token", format!("ya29.{}", word(60))),
        ("google-oauth-secret", format!("GOCSPX-{}", word(28))),
        ("huggingface-token", format!("hf_{}", word(34))),
        ("docket-token", format!("dkt_{}", word(43))),
        ("docker-token", format!("dckr_pat_{}", word(27))),
        ("digitalocean-token", format!("dop_v1_{}", lower_hex(64))),
        ("shopify-token", format!("shpat_{}", lower_hex(32))),
        ("vault-token", format!("hvs.{}", word(90))),
        ("telegram-token", format!("123456789:AA{}", word(33))),
    ];
    for (rule, secret) in &cases {
        for (before, after) in
            [("", ""), ("see ", " there"), ("(", ")"), ("x=\"", "\""), ("é", "é"), ("_", "\n")]
        {
            let text = format!("{before}{secret}{after}");
            let (result, rules) = masked_by_rule(&values, &text);
            assert_eq!(result, format!("{before}{MARK}{after}"), "{rule}");
            assert_eq!(rules, [*rule], "{text}");
            assert_eq!(masked_by_rule(&values, &result).1, [""; 0], "{rule} is not idempotent");
        }
        let pair = format!("{secret},{secret} {secret}");
        assert_eq!(masked_by_rule(&values, &pair).0, format!("{MARK},{MARK} {MARK}"), "{rule} side by side");
    }
    // Without its end a key runs as far as it could go on, and over the words that follow.
    let cut =
        format!("x: -----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,{}\n\n{}", upper(32), word(64));
    assert_eq!(masked_by_rule(&values, &cut), (format!("x: {MARK}"), vec!["private-key"]));
    let tested: std::collections::BTreeSet<&str> = cases.iter().map(|(rule, _)| *rule).collect();
    for shape in SHAPES.iter().filter(|shape| !tested.contains(shape.name)) {
        assert!(IN_CONTEXT.contains(&shape.name), "rule {} has no test", shape.name);
    }
}

/// Rules tested in [`only_the_secret_part_is_masked`], as they need something around the secret.
const IN_CONTEXT: &[&str] = &[
    "aws-secret-key",
    "azure-account-key",
    "azure-sas",
    "slack-webhook",
    "discord-webhook",
    "connection-string",
    "bearer-token",
    "basic-auth",
    "command-line",
    "sql-password",
];

#[test]
fn only_the_secret_part_is_masked() {
    let values = Values::compile(&Settings::default()).unwrap();
    let token = word(32);
    let forty = word(40);
    let cases: &[(&str, String)] = &[
        ("aws-secret-key", format!("aws_secret_access_key = <{forty}>")),
        ("azure-account-key", format!("AccountName=a;AccountKey=<{}==>;EndpointSuffix=core", word(86))),
        ("azure-account-key", format!("SharedAccessKeyName=x;SharedAccessKey=<{}=>", word(43))),
        ("azure-sas", format!("https://a.blob.core.windows.net/c?sv=2022-11-02&sig=<{}%3D>&se=1", word(40))),
        ("slack-webhook", format!("https://hooks.slack.com/services/<T0000/B0000/{token}>")),
        ("discord-webhook", format!("https://discord.com/api/webhooks/123456789/<{}>", word(68))),
        ("connection-string", "postgres://user:<hunter2>@host/db".into()),
        ("connection-string", "redis://:<hunter2>@host:6379/0".into()),
        ("connection-string", "mongodb+srv://u:<p@ss>@host/db?retry=true".into()),
        ("connection-string", "https://x-access-token:<swordfish>@github.com/a/b.git".into()),
        ("bearer-token", format!("sent Bearer <{token}> to it")),
        ("bearer-token", format!("Authorization: Bearer <{token}>")),
        ("authorization", format!("curl -H 'Authorization: token <{token}>' https://x")),
        ("basic-auth", "curl -H \"authorization: Basic <dXNlcjpwYXNz>\" https://x".into()),
        ("authorization", "{\"headers\": \"Authorization: Bearer <swordfish>\"".into()),
        ("basic-auth", "with Basic <dXNlcjpodW50ZXIy> it works".into()),
        ("authorization", "Cookie: <sid=abc; theme=dark>\r\nHost: x".into()),
        ("command-line", "curl -s -u bob:<hunter2> https://x".into()),
        ("command-line", "sshpass -p '<hunter2>' ssh x".into()),
        ("sql-password", "CREATE USER bob IDENTIFIED BY '<hunter two>'".into()),
        ("command-line", "mysql --password=<hunter2> -u root".into()),
        ("command-line", "deploy --token <abc123def> --verbose".into()),
        ("command-line", "deploy --token <swordfish> --verbose".into()),
        ("command-line", "deploy --api-key '<sword fish>'".into()),
        ("assignment", "PASSWORD=<swordfish> ./run".into()),
        ("assignment", "export API_KEY=<abc123>".into()),
        ("assignment", "export API_KEY='<abc 123>'; ls".into()),
        ("assignment", "DB_PASSWORD=<a,b)c!> ./run".into()),
        ("query-parameter", "https://x/y?api_key=<swordfish>&page=2".into()),
        ("query-parameter", "https://x/y?page=2&access_token=<abc.def>#top".replace(">#top", ">")),
        ("query-parameter", "https://x/y?access%5Ftoken=<swordfish>&page=2".into()),
        ("query-parameter", "https://x/y?a=%20&%70assw%6Frd=<swordfish>".into()),
        ("query-parameter", "https://x/y?api%255fkey=<swordfish>".into()),
        ("assignment", "%74oken=<swordfish>&page=2".into()),
        ("assignment", "Server=x;User Id=sa;Password=<hunter2>;Encrypt=yes".into()),
        ("assignment", "password: <hunter2>".into()),
        ("assignment", "the password: \"<correct horse>\" was given".into()),
        ("assignment", "{\"password\": \"<swordfish>\", \"x\": ".into()),
        ("assignment", r#"{\"password\":\"<sword\\\"fish>\",\"x\":1"#.into()),
        ("assignment", r#"{"password":"<sword\"fish>","x":1 trailing"#.into()),
        ("assignment", "os.environ['SECRET_KEY'] = '<swordfish>'".into()),
        ("assignment", "const apiKey = \"<swordfish>\";".into()),
        ("assignment", "password = <swordfish>\nhost = x".into()),
        ("assignment", "<password><swordfish></password>".replacen('<', "\u{1}", 1).replace("</", "\u{2}")),
        ("assignment", "X-Api-Key: <abc123def>".into()),
        ("assignment", "DB_PASSWORD=<Tr0ub4dor(3)> ./run".into()),
        ("assignment", "password=<${ntr2zzB> x".into()),
        ("assignment", "password=<[redacted]hunter2realA> x".into()),
        ("connection-string", "postgres://user:<[redacted]hunter2>@host/db".into()),
    ];
    for (rule, marked) in cases {
        // `<…>` marks the secret; an XML tag is written with control characters.
        let plain = marked.replace(['<', '>'], "").replace('\u{1}', "<").replace('\u{2}', "</");
        let (text, expected) = if marked.contains('\u{1}') {
            let text = "<password>swordfish</password>".to_owned();
            (text, format!("<password>{MARK}</password>"))
        } else {
            let (before, rest) = marked.split_once('<').unwrap();
            let (_, after) = rest.rsplit_once('>').unwrap();
            (plain, format!("{before}{MARK}{after}"))
        };
        let (result, rules) = masked_by_rule(&values, &text);
        assert_eq!(result, expected, "{text}");
        assert_eq!(rules, [*rule], "{text}");
        assert_eq!(masked_by_rule(&values, &result).0, result, "not idempotent: {text}");
    }
}

#[test]
fn what_sql_binds_later_is_no_password() {
    let values = Values::compile(&Settings::default()).unwrap();
    for text in [
        "UPDATE users SET password = :pw WHERE id = :id",
        "INSERT INTO t SELECT 1 WHERE password=@p1",
        "select 1 where token=?1 and secret=$2",
    ] {
        assert_eq!(masked_by_rule(&values, text), (text.to_owned(), vec![]));
    }
}

/// What this thread has had of a processor, in milliseconds: a busy machine makes no difference.
fn processor_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

#[test]
fn hostile_long_texts_cost_time_in_proportion() {
    let values = Values::compile(&Settings::default()).unwrap();
    let pieces = [
        "-----BEGIN PRIVATE KEY----- ",
        "token=<token=<",
        "token:aaaa",
        "password=\"x",
        "password='a\\",
        "://a:b@",
        "://a:b",
        "eyJaaaaaaaaaa.",
        "AKIA",
        "bearer ",
        "curl -u ",
        "curl ",
        "authorization: bearer ",
        "cookie: a=",
        "--token --token ",
        "token    :   ",
        "secret_access_key=",
        "pass",
        "key_",
        "\\\\\\\"password\\\\\\\":",
        "sk-",
        "a",
        "pwd=/a",
        "password=[redacted]",
        "password=[redacted]x ",
        "authorization: bearer [redacted] ",
        "p%61ssword=",
        "p%61ssword=\"",
        "%70wd=/",
        "%61uthorization=bearer ",
        "tok%65n=\\\"",
    ];
    for piece in pieces {
        let text = piece.repeat((1 << 20) / piece.len());
        let before = processor_ms();
        let findings = values.find(&text, values.scan(&text));
        let result = masked(&text, &findings);
        let spent = processor_ms() - before;
        assert!(spent < 1_500, "{piece:?} took {spent} ms");
        assert!(result.len() <= text.len() * 3);
    }
}
