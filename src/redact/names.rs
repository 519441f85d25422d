//! Key names: which member names announce a credential.
//!
//! A name is read as an English compound. `userPassword`, `db_password` and `PASSWORD-2` are passwords, since the last
//! word says what the thing is; `password_policy`, `token_count` and `secret_name` are a policy, a count and a name. So
//! the last word decides, after words that change nothing (`…_confirmation`, `…_prod`, `…_2`), and an allow list is
//! needed only where the last word itself has another sense: a page token, a primary key, the tokens of a language
//! model. Case and separators do not matter. Knows nothing of the values, except what kind of value may be meant.

use std::collections::BTreeSet;

use super::settings::Settings;
use crate::text;

/// Which values under such a name are masked. Booleans, `null` and empty values never are: they hold no secret, and
/// `"password": null` is what an auditor wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sensitivity {
    /// Strings, numbers, objects and arrays.
    Full,
    /// Strings, objects and arrays: a number would be a count, as in `api_keys: 3`.
    Counted,
    /// Strings only, as `pass` is as often the number of tests that passed.
    Text,
    /// Strings that look random, as `auth` is also `none` and `oauth2`.
    Random,
    /// Strings that are not a path, as `PWD` is the working directory too.
    NotPath,
}

/// Stems of which every sensitive name contains at least one, ignoring case. They select what is worth reading.
const STEMS: &[&str] = &[
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "auth",
    "cookie",
    "credential",
    "sess",
    "connect.sid",
    "otp",
    "jwt",
    "bearer",
    "phrase",
    "verifier",
    "signature",
];

/// Names longer than this are read from their end, where the deciding word is.
pub(super) const MAX_NAME_BYTES: usize = 128;

const MAX_WORDS: usize = 16;

const PASSWORD: &[&str] = &["password", "passwd", "passphrase", "passcode", "passwort"];
const PLURAL: &[&str] = &["passwords", "passphrases", "secrets", "credentials", "cookies", "apikeys"];
const WHOLE: &[&str] = &["secret", "token", "authorization", "cookie", "credential", "otp", "totp"];

/// Written as one word without a hint of case: `PGPASSWORD`, `apikey`, `JSESSIONID`.
const SQUASHED: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "apitoken",
    "apisecret",
    "secretkey",
    "privatekey",
    "accesstoken",
    "authtoken",
    "refreshtoken",
    "idtoken",
    "sessiontoken",
    "clientsecret",
    "sessionid",
    "sessid",
    "accountkey",
    "secretaccesskey",
    "sharedaccesskey",
    "sharedaccesssignature",
    "bottoken",
    "setcookie",
];

/// Before `key`, these make it one that unlocks something. A primary, public, foreign or cache key unlocks nothing.
const UNLOCKING: &[&str] = &[
    "api",
    "private",
    "secret",
    "access",
    "account",
    "encryption",
    "decryption",
    "signing",
    "master",
    "auth",
    "shared",
    "session",
    "storage",
    "service",
    "subscription",
    "hmac",
    "admin",
    "token",
    "jwt",
    "webhook",
];

/// Before `token`, these make it a cursor, a correlation id, or a piece of text for a language model.
const HARMLESS_TOKEN: &[&str] = &[
    "page",
    "next",
    "previous",
    "prev",
    "continuation",
    "continue",
    "progress",
    "cursor",
    "sync",
    "pagination",
    "resume",
    "skip",
    "cancellation",
    "eos",
    "bos",
    "pad",
    "unk",
    "sep",
    "cls",
    "mask",
    "stop",
    "special",
    "start",
    "end",
    "first",
    "last",
    "per",
    "max",
    "min",
    "image",
    "text",
    "syntax",
    "design",
    "current",
    "count",
    "change",
    "request",
    "idempotency",
    "marker",
    "unexpected",
    "expected",
];

/// Before `tokens`, these make them credentials; `tokens`, `max_tokens` and `prompt_tokens` are numbers of words.
const HOLDING_TOKENS: &[&str] = &["access", "auth", "api", "refresh", "bearer", "session", "secret"];

/// Last words that change nothing: `password_confirmation`, `token_prod`, `secret_value`, `api_key_2`.
const TRANSPARENT: &[&str] = &[
    "confirmation",
    "confirm",
    "confirmed",
    "again",
    "repeat",
    "value",
    "text",
    "plain",
    "plaintext",
    "raw",
    "b",
    "base",
    "string",
    "prod",
    "production",
    "dev",
    "development",
    "staging",
    "test",
    "live",
    "new",
    "old",
    "current",
    "previous",
    "backup",
    "primary",
    "secondary",
    "encrypted",
];

/// What follows says whose it is, not what it is: `password_for_db`, `token_from_github`.
const PREPOSITIONS: &[&str] = &["for", "of", "from"];

/// A name that begins so is a question with an answer of its own: `has_password`, `requiresToken`.
const QUESTIONS: &[&str] = &[
    "has", "is", "requires", "require", "required", "show", "hide", "allow", "enable", "disable", "needs",
    "need", "forgot", "supports", "no", "count", "num",
];

/// The names that announce credentials here: the built-in sense of names, and an operator's own lists. Those hold whole
/// names, of which neither case nor separators matter.
pub(super) struct Names {
    extra: BTreeSet<String>,
    allowed: BTreeSet<String>,
    /// Words of the extra names, for whoever looks for names in a text.
    words: Vec<String>,
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Self {
        let plain = |names: &[String]| names.iter().map(|name| text::plain(name)).collect();
        let longest = |name: &String| {
            let mut words = [""; MAX_WORDS];
            let count = split(name, &mut words);
            let longest = words.into_iter().take(count).max_by_key(|word| word.len());
            longest.map_or_else(|| name.clone(), str::to_owned)
        };
        Self {
            extra: plain(&settings.key_names),
            allowed: plain(&settings.allow_key_names),
            words: settings.key_names.iter().map(longest).collect(),
        }
    }

    /// Of these every name that announces a credential contains at least one, ignoring case.
    pub(super) fn stems(&self) -> impl Iterator<Item = &str> {
        STEMS.iter().copied().chain(self.words.iter().map(String::as_str))
    }

    /// Whether `name` announces a credential, and in what kind of value.
    pub(super) fn sensitivity(&self, name: &str) -> Option<Sensitivity> {
        if !(self.extra.is_empty() && self.allowed.is_empty()) && name.len() <= MAX_NAME_BYTES {
            let plain = text::plain(name);
            if self.allowed.contains(&plain) {
                return None;
            }
            if self.extra.contains(&plain) {
                return Some(Sensitivity::Full);
            }
        }
        sensitivity(name)
    }
}

/// Whether `name` announces a credential, in the built-in sense of names.
pub(super) fn sensitivity(name: &str) -> Option<Sensitivity> {
    let mut words = [""; MAX_WORDS];
    let count = split(name, &mut words);
    let all = words.get(..count)?;
    if all.len() > 1 && all.first().is_some_and(|first| one_of(first, QUESTIONS)) {
        return None;
    }
    let cut = all.iter().skip(1).position(|word| one_of(word, PREPOSITIONS)).map_or(all.len(), |at| at + 1);
    let mut words = all.get(..cut)?;
    while let [rest @ .., last] = words {
        let digits = last.bytes().all(|byte| byte.is_ascii_digit());
        if rest.is_empty() || !(digits || one_of(last, TRANSPARENT)) {
            break;
        }
        words = rest;
    }
    match words {
        [.., before, last] => compound(before, last),
        [word] => single(word),
        [] => None,
    }
}

fn compound(before: &str, last: &str) -> Option<Sensitivity> {
    let is = |word: &str| last.eq_ignore_ascii_case(word);
    if is("token") {
        return (!one_of(before, HARMLESS_TOKEN)).then_some(Sensitivity::Full);
    }
    if is("tokens") {
        return one_of(before, HOLDING_TOKENS).then_some(Sensitivity::Counted);
    }
    if is("key") {
        return one_of(before, UNLOCKING).then_some(Sensitivity::Full);
    }
    if is("keys") {
        return one_of(before, UNLOCKING).then_some(Sensitivity::Counted);
    }
    if is("pass") {
        return Some(Sensitivity::Text);
    }
    let full = (is("id") && one_of(before, &["session", "sess"]))
        || (is("sid") && one_of(before, &["connect"]))
        || ((is("hash") || is("digest")) && one_of(before, PASSWORD))
        || (is("code") && one_of(before, &["authorization", "otp"]))
        || (is("verifier") && one_of(before, &["code"]))
        || (is("phrase") && one_of(before, &["seed", "recovery", "mnemonic", "pass"]))
        || (is("signature") && one_of(before, &["amz", "access"]))
        || (is("word") && one_of(before, &["pass"]));
    if full { Some(Sensitivity::Full) } else { single(last) }
}

fn single(word: &str) -> Option<Sensitivity> {
    let is = |other: &str| word.eq_ignore_ascii_case(other);
    if one_of(word, PASSWORD) || one_of(word, WHOLE) {
        Some(Sensitivity::Full)
    } else if one_of(word, PLURAL) {
        Some(Sensitivity::Counted)
    } else if is("pass") || is("jwt") || is("bearer") {
        Some(Sensitivity::Text)
    } else if is("auth") {
        Some(Sensitivity::Random)
    } else if is("pwd") {
        Some(Sensitivity::NotPath)
    } else {
        SQUASHED.iter().any(|suffix| ends_with(word, suffix)).then_some(Sensitivity::Full)
    }
}

fn one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| word.eq_ignore_ascii_case(entry))
}

fn ends_with(word: &str, suffix: &str) -> bool {
    let (word, suffix) = (word.as_bytes(), suffix.as_bytes());
    word.len() >= suffix.len()
        && word.get(word.len() - suffix.len()..).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// Splits at separators, at changes of case (`apiKey`, `APIKey`) and around digits; keeps the last words.
fn split<'a>(name: &'a str, words: &mut [&'a str; MAX_WORDS]) -> usize {
    let mut from = name.len().saturating_sub(MAX_NAME_BYTES);
    while !name.is_char_boundary(from) {
        from += 1;
    }
    let bytes = name.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
    let mut count = 0;
    let mut push = |word: &'a str| {
        if word.is_empty() {
            return;
        }
        if count == MAX_WORDS {
            words.rotate_left(1);
            count -= 1;
        }
        if let Some(slot) = words.get_mut(count) {
            *slot = word;
            count += 1;
        }
    };
    let mut start = from;
    for index in from..bytes.len() {
        let byte = at(index);
        if !byte.is_ascii_alphanumeric() {
            push(name.get(start..index).unwrap_or_default());
            start = index + 1;
            continue;
        }
        if index == start {
            continue;
        }
        let before = at(index - 1);
        let camel = byte.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || (before.is_ascii_uppercase() && at(index + 1).is_ascii_lowercase()));
        if camel || byte.is_ascii_digit() != before.is_ascii_digit() {
            push(name.get(start..index).unwrap_or_default());
            start = index;
        }
    }
    push(name.get(start..).unwrap_or_default());
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str) -> Vec<String> {
        let mut words = [""; MAX_WORDS];
        let count = split(name, &mut words);
        words[..count].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_split_into_words() {
        for (name, expected) in [
            ("userPassword", "user Password"),
            ("APIKey", "API Key"),
            ("x-api-key", "x api key"),
            ("DB_PASSWORD_2", "DB PASSWORD 2"),
            ("token_sha256", "token sha 256"),
            ("__auth..Token__", "auth Token"),
            ("clé_secret", "cl secret"),
            ("", ""),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
        assert_eq!(words(&"a_".repeat(500)).len(), MAX_WORDS);
        assert_eq!(sensitivity(&format!("{}_password", "é".repeat(200))), Some(Sensitivity::Full));
    }

    #[test]
    fn credentials_are_known_by_name() {
        let names = "password passwd pwd passphrase secret client_secret clientSecret token access_token accessToken \
            refresh_token id_token api_key apikey apiKey API-KEY x-api-key authorization Authorization \
            proxy-authorization cookie set-cookie Set-Cookie private_key privateKey secret_key secretKey credentials \
            credential db_password userPassword PASSWORD PGPASSWORD MYSQL_PWD smtp_pass pass password2 password_2 \
            new_password password_confirmation passwordConfirm oldPassword api_key_prod GITHUB_TOKEN github.token \
            _authToken aws_secret_access_key SecretAccessKey SecretString accessKey AccountKey SharedAccessKey \
            session_id sessionId JSESSIONID PHPSESSID mcp-session-id session_token csrf_token X-CSRF-Token \
            password_for_db token_from_github bearer_token auth_token authToken bot_token webhook_secret \
            encryption_key signing_key passwords secrets access_tokens api_keys password_hash jwt otp \
            authorization_code code_verifier seed_phrase x-amz-signature X-Amz-Security-Token auth \
            Ocp-Apim-Subscription-Key connect.sid user.password spring.datasource.password totp_secret";
        for name in names.split_whitespace() {
            assert!(sensitivity(name).is_some(), "{name} was not recognised");
            let lower = name.to_ascii_lowercase();
            assert!(STEMS.iter().any(|stem| lower.contains(stem)), "{name} has no stem, so it is never read");
        }
    }

    #[test]
    fn look_alikes_are_left_alone() {
        let names = "token_count max_tokens maxTokens tokens total_tokens token_type tokenType page_token \
            next_page_token nextPageToken nextToken progressToken progress_token password_policy secret_name \
            token_sha256 public_key publicKey key keys passwordless tokenize tokenizer secretary author authors \
            authorized authority authorization_url authorizationEndpoint cookies_enabled cookie_domain \
            cookie_name password_length password_min_length token_limit token_endpoint token_uri tokens_used \
            prompt_tokens completion_tokens input_tokens primary_key foreign_key partition_key sort_key cache_key \
            idempotency_key object_key s3_key keyboard monkey keyword passed passing passenger compass bypass passive \
            session sessions session_count session_name has_password requires_token is_secret eos_token \
            stop_token secret_version secret_arn access_key_id key_id kid token_id authenticated authentication_method \
            oauth oauth_provider auth_type auth_method user_auth_level password_changed_at token_expires_at \
            credential_type credentials_file password_field secret_store passport passage tokenized hotkey \
            ssh_public_key cookie_policy signature password_hint assessment obsession possession";
        for name in names.split_whitespace() {
            assert_eq!(sensitivity(name), None, "{name}");
        }
    }
}
