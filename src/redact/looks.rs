//! What a word looks like: too common to be a secret, a mere reference to one, or like nothing that people write.
//!
//! Prose and code are full of the words that announce secrets, so where only the surroundings speak for a secret, the
//! word itself is asked too.

use super::names;

/// A value longer than this without a break is a secret whatever it looks like; it also bounds what a look may cost.
pub(super) const MAX_WORD_BYTES: usize = 256;

/// HTTP authentication schemes that are followed by the credentials.
const SCHEMES: &[&str] = &[
    "bearer",
    "basic",
    "token",
    "digest",
    "negotiate",
    "apikey",
    "api-key",
    "key",
    "dpop",
    "hawk",
    "aws4-hmac-sha256",
];

/// Words that stand where a secret could, and are none: literals, types, and what error messages say.
const COMMON: &[&str] = &[
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "yes",
    "no",
    "on",
    "off",
    "string",
    "number",
    "integer",
    "boolean",
    "object",
    "array",
    "bytes",
    "text",
    "str",
    "password",
    "passwd",
    "secret",
    "token",
    "key",
    "apikey",
    "api_key",
    "required",
    "optional",
    "missing",
    "invalid",
    "expired",
    "empty",
    "unset",
    "default",
    "changeme",
    "example",
    "bearer",
    "basic",
    "digest",
    "oauth",
    "oauth2",
    "include",
    "omit",
    "same-origin",
    "hidden",
    "redacted",
    "masked",
    "sha256",
    "uint64",
    "uint256",
    "float64",
    "base64",
    "service_account",
    "authorized_user",
];

/// Whether a value is a path or a variable rather than a password: `PWD=/srv`.
pub(super) fn is_path(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.starts_with(['/', '~', '.', '$']) || (bytes.get(1) == Some(&b':') && bytes.get(2) == Some(&b'\\'))
}

/// Whether a word is an HTTP authentication scheme, so that credentials follow.
pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word))
}

/// Whether a word is too common to be a secret by itself.
pub(super) fn is_common(value: &str) -> bool {
    COMMON.iter().any(|word| word.eq_ignore_ascii_case(value))
}

/// Whether a value only refers to a secret: `$TOKEN`, `{{ password }}`, `<your-key>`, `***`, `get_secret()`, `self.token`.
pub(super) fn is_placeholder(value: &str) -> bool {
    if value.len() > MAX_WORD_BYTES {
        return false;
    }
    let name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let wrapped = [("$(", ""), ("{", "}"), ("<", ">"), ("%", "%"), ("%(", ""), ("[", "]")];
    if wrapped
        .iter()
        .any(|(open, close)| value.starts_with(open) && value.ends_with(close) && value.len() > 1)
    {
        return true;
    }
    // `${NAME:-a default}` may be cut at its blank.
    if value.starts_with("${") && value.contains(['}', ':']) {
        return true;
    }
    if is_bind_parameter(value) {
        return true;
    }
    if value.strip_prefix('$').is_some_and(name) || matches!(value, "%s" | "%v" | "%q" | "%d" | "?" | "...") {
        return true;
    }
    if value.bytes().all(|byte| b"*x.X-".contains(&byte)) {
        return true;
    }
    // Code: a call, an index, or a field whose own name is that of a secret.
    let complete = value.ends_with(['(', '[']) || value.contains([')', ']']);
    if let Some(open) = value.find(['(', '[']).filter(|_| complete) {
        let callee = value.get(..open).unwrap_or_default();
        let given = value.get(open..).unwrap_or_default();
        // `Tr0ub4dor(3)` is no call.
        let mixed = [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase]
            .iter()
            .all(|test| callee.bytes().any(|byte| test(&byte)));
        let literal = mixed
            && given.bytes().any(|byte| byte.is_ascii_digit())
            && !given.bytes().any(|byte| byte.is_ascii_alphabetic() || b"\"'_".contains(&byte));
        if !literal
            && callee.split(['.', ':']).filter(|part| !part.is_empty()).all(name)
            && name(callee.trim_matches(['.', ':']).rsplit(['.', ':']).next().unwrap_or_default())
        {
            return true;
        }
    }
    match value.rsplit_once('.') {
        Some((path, last)) => {
            value.split('.').all(name)
                && (names::sensitivity(last).is_some()
                    || [
                        "self", "this", "os", "process", "env", "config", "settings", "args", "input",
                        "data", "var",
                    ]
                    .contains(&path.split('.').next().unwrap_or_default()))
        }
        None => {
            value.contains('_')
                && !value.bytes().any(|b| b.is_ascii_digit())
                && names::sensitivity(value).is_some()
        }
    }
}

/// Whether a value is what SQL binds later: `:pw`, `@p1`, `?1`, `$2`.
fn is_bind_parameter(value: &str) -> bool {
    let named = value.strip_prefix([':', '@']).is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && !looks_random(name)
    });
    let numbered = value.strip_prefix(['?', '$']).is_some_and(|number| {
        (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    named || numbered
}

/// Whether a word looks like nothing that is written in prose or code: letters with digits, signs, or many digits.
pub(super) fn looks_random(value: &str) -> bool {
    if value.len() > MAX_WORD_BYTES {
        return true;
    }
    if value.len() < 6 || is_path(value) || value.contains("://") || is_common(value) {
        return false;
    }
    let has = |test: fn(&u8) -> bool| value.as_bytes().iter().any(test);
    let email = value.split_once('@').is_some_and(|(_, host)| host.contains('.'));
    let sign = has(|byte| b"!#$%^*+=~@".contains(byte)) && !email;
    let mixed = value.len() >= 20
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && !value.contains(' ');
    !email && (has(u8::is_ascii_digit) || sign || mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_words_differ_from_written_ones() {
        for random in ["hunter2", "12345678", "p@sswordy", "aB3dE5fG", &"x".repeat(300)] {
            assert!(looks_random(random), "{random}");
        }
        for written in
            ["swordfish", "required", "sha256", "a1", "/srv/data1", "alice1@example.com", "https://x/1"]
        {
            assert!(!looks_random(written), "{written}");
        }
    }

    #[test]
    fn placeholders_refer_to_secrets_without_being_any() {
        for reference in [
            "$TOKEN",
            "${TOKEN}",
            "{{ token }}",
            "<your-key>",
            "***",
            "xxxx",
            "get_secret()",
            "self.token",
            "db_password",
            "${TOKEN:-some",
            "getToken2(user)",
            "sha256(3)",
            ":pw",
            "@p1",
            "?1",
            "$2",
        ] {
            assert!(is_placeholder(reference), "{reference}");
        }
        for literal in [
            "swordfish",
            "$ecr3t!",
            "a.b1",
            "p(a",
            "x9",
            "Tr0ub4dor(3)",
            "${ntr2zzB",
            "@hunter2",
            ":Pw",
            "?1234",
        ] {
            assert!(!is_placeholder(literal), "{literal}");
        }
    }
}
