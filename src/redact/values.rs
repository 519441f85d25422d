//! Value rules: credentials known by their own shape, wherever they stand.
//!
//! Each rule is a name, a few literals of which at least one is in every match, and a regular expression. One
//! Aho-Corasick automaton over all literals reads a text once; only the rules whose literal is there run, so clean text
//! costs one pass. Expressions are of the `regex` crate, hence linear, and are written so that no match needs to look
//! far beyond its end: otherwise many short matches in one long text would cost its square.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind};
use base64::Engine as _;
use regex::Regex;

use super::assign;
use super::edit::{MARK, Op};
use super::looks;
use super::names::{Names, Sensitivity};
use super::settings::Settings;

/// Part of a text that is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// The rule's name, without `builtin:`.
    pub rule: &'static str,
    /// Whether it is a secret for sure, and so to be scrubbed from the rest of the record; else it is so only by its
    /// surroundings, as `swordfish` in `password=swordfish`, and would take a common word out of every other text.
    pub sure: bool,
    /// What is done with it, and what stands in its place.
    pub op: Op,
    pub mark: Cow<'static, str>,
    pub category: &'static str,
}

impl Finding {
    /// What a credential rule finds.
    pub(super) fn credential(range: Range<usize>, rule: &'static str, sure: bool) -> Self {
        Self { range, rule, sure, op: Op::Mask, mark: Cow::Borrowed(MARK), category: CREDENTIAL }
    }
}

/// The category of every edit that a credential rule makes.
pub(super) const CREDENTIAL: &str = "credential";

/// What a rule asks of a match beyond its shape.
#[derive(Clone, Copy)]
enum Guard {
    None,
    /// Looks random: prose goes on with a word after `Bearer`.
    Random,
    /// A digit, and an upper-case letter or an unbroken run of sixteen: `sk-` also begins kebab-case names.
    Dense,
    /// Base64 of `user:password`: `Basic authentication` is prose.
    UserPassword,
    /// Not a placeholder as `${PASSWORD}`.
    Literal,
}

struct Shape {
    name: &'static str,
    literals: &'static [&'static str],
    /// Group 1 is the secret, where there is one; else the whole match.
    regex: &'static str,
    guard: Guard,
}

const fn shape(name: &'static str, literals: &'static [&'static str], regex: &'static str) -> Shape {
    Shape { name, literals, regex, guard: Guard::None }
}

const fn guarded(
    name: &'static str,
    literals: &'static [&'static str],
    regex: &'static str,
    guard: Guard,
) -> Shape {
    Shape { name, literals, regex, guard }
}

/// Where two rules find the same thing, the first in this list gives its name.
const SHAPES: &[Shape] = &[
    shape(
        "private-key",
        &["private key"],
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
    ),
    // The same without its end: truncated texts, and what was cut out of a log.
    shape(
        "private-key",
        &["private key"],
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[\sA-Za-z0-9+/=\\:,]|-[A-Za-z0-9]){16,}",
    ),
    shape("private-key", &["age-secret-key-1"], r"AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    shape("jwt", &["eyj"], r"(?:^|[^A-Za-z0-9])(eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4})"),
    shape("aws-access-key-id", &["akia", "asia"], r"(?:^|[^A-Za-z0-9])((?:AKIA|ASIA)[A-Z0-9]{16,})"),
    shape(
        "aws-secret-key",
        &["secret"],
        r#"(?i)(?:aws_?|secret_?)(?:secret_?)?access_?key["'\\\s]{0,4}[:=]["'\\\s]{0,4}([A-Za-z0-9/+=]{40})"#,
    ),
    shape("gcp-api-key", &["aiza"], r"(?:^|[^A-Za-z0-9])(AIza[A-Za-z0-9_-]{35})"),
    shape(
        "azure-account-key",
        &["accountkey", "sharedaccesskey"],
        r"(?i)(?:AccountKey|SharedAccessKey)\s?=\s?([A-Za-z0-9+/%]{16,}=*)",
    ),
    shape("azure-sas", &["sig="], r"(?i)[?&;]sig=([A-Za-z0-9%+/_-]{16,}=*)"),
    shape("github-token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"gh[pousr]_[A-Za-z0-9]{30,}"),
    shape("github-token", &["github_pat_"], r"github_pat_[A-Za-z0-9_]{22,}"),
    shape("gitlab-token", &["glpat-", "gldt-", "glrt-"], r"gl(?:pat|dt|rt)-[A-Za-z0-9_-]{20,}"),
    shape(
        "slack-token",
        &["xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-", "xoxe.", "xoxp-", "xoxr-", "xoxs-", "xapp-"],
        r"(?:xox[a-eprs]|xapp)[.-][A-Za-z0-9.-]{10,}",
    ),
    shape(
        "slack-webhook",
        &["hooks.slack.com"],
        r"(?i)hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9_/+-]{16,})",
    ),
    shape("discord-webhook", &["/api/webhooks/"], r"/api/webhooks/[0-9]{6,}/([A-Za-z0-9_-]{30,})"),
    shape(
        "stripe-key",
        &["sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"],
        r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{10,}",
    ),
    shape("anthropic-key", &["sk-ant-"], r"sk-ant-[A-Za-z0-9_-]{16,}"),
    guarded("openai-key", &["sk-"], r"(?:^|[^A-Za-z0-9])(sk-[A-Za-z0-9_-]{20,})", Guard::Dense),
    shape("npm-token", &["npm_"], r"(?:^|[^A-Za-z0-9])(npm_[A-Za-z0-9]{36,})"),
    shape("pypi-token", &["pypi-"], r"pypi-[A-Za-z0-9_-]{50,}"),
    shape("sendgrid-key", &["sg."], r"(?:^|[^A-Za-z0-9])(SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    shape("google-oauth-token", &["ya29."], r"(?:^|[^A-Za-z0-9])(ya29\.[A-Za-z0-9_-]{20,})"),
    shape("google-oauth-secret", &["gocspx-"], r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    shape("huggingface-token", &["hf_"], r"(?:^|[^A-Za-z0-9])(hf_[A-Za-z0-9]{30,})"),
    shape("docket-token", &["dkt_"], r"dkt_[A-Za-z0-9_-]{40,}"),
    shape("docker-token", &["dckr_pat_"], r"dckr_pat_[A-Za-z0-9_-]{20,}"),
    shape("digitalocean-token", &["dop_v1_"], r"dop_v1_[a-f0-9]{40,}"),
    shape("shopify-token", &["shpat_", "shpss_", "shpca_", "shppa_"], r"shp(?:at|ss|ca|pa)_[A-Fa-f0-9]{32}"),
    shape("vault-token", &["hvs."], r"(?:^|[^A-Za-z0-9])(hvs\.[A-Za-z0-9_-]{24,})"),
    shape("telegram-token", &[":aa"], r"(?:^|[^A-Za-z0-9])([0-9]{8,10}:AA[A-Za-z0-9_-]{33})"),
    shape("grafana-token", &["glsa_"], r"(?:^|[^A-Za-z0-9])(glsa_[A-Za-z0-9]{20,}(?:_[A-Fa-f0-9]{8})?)"),
    shape("linear-key", &["lin_api_"], r"(?:^|[^A-Za-z0-9])(lin_api_[A-Za-z0-9]{20,})"),
    guarded("connection-string", &["://"], r#"://[^\s/?#:@"'<>\\]*:([^\s/?"'<>\\]+)@"#, Guard::Literal),
    guarded("bearer-token", &["bearer"], r"(?i)bearer[ \t]{1,4}([A-Za-z0-9._~+/-]{8,}=*)", Guard::Random),
    guarded("basic-auth", &["basic"], r"(?i)basic[ \t]{1,4}([A-Za-z0-9+/]{6,}={0,2})", Guard::UserPassword),
    guarded(
        "command-line",
        &["curl"],
        r#"curl\s(?:[^|;\n]*?\s)?(?:-u|--user)[ =]?["']?[^\s:"']+:([^\s"']+)"#,
        Guard::Literal,
    ),
    guarded("command-line", &["sshpass"], r#"sshpass\s+-p\s?["']?([^\s"']+)"#, Guard::Literal),
    guarded("sql-password", &["identified by"], r#"(?i)identified\s+by\s+["']([^"']+)["']"#, Guard::Literal),
];

/// All value rules, compiled.
pub(super) struct Values {
    /// Walked by hand: most texts are short, and setting up a search would cost more than the search.
    prefilter: DFA,
    start: StateID,
    /// The rule of each literal of the prefilter; `None` for the stem of a key name.
    owners: Vec<Option<usize>>,
    regexes: Vec<Regex>,
    /// Rules that are switched off.
    disabled: BTreeSet<String>,
    names: Names,
}

/// The names of the rules here; some occur more than once.
pub(super) fn rule_names() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|shape| shape.name)
}

/// What the prefilter saw in a text.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// One bit for each rule that may match.
    rules: u64,
    /// Whether the stem of a key name is there.
    pub stem: bool,
    /// Whether there may be a name whose stem percent-encoding hides.
    encoded: bool,
}

impl Values {
    /// Compiles the rules; some milliseconds, once per process.
    ///
    /// # Errors
    /// The first rule that does not compile: a rule that is left out silently would let its secrets through.
    pub(super) fn compile(settings: &Settings) -> Result<Self, String> {
        let mut literals: Vec<&str> = Vec::new();
        let mut owners = Vec::new();
        let mut regexes = Vec::new();
        for (index, shape) in SHAPES.iter().enumerate() {
            let disabled = settings.disabled_rules.contains(shape.name);
            for literal in shape.literals.iter().filter(|_| !disabled) {
                literals.push(*literal);
                owners.push(Some(index));
            }
            regexes.push(Regex::new(shape.regex).map_err(|e| format!("rule `{}`: {e}", shape.name))?);
        }
        if regexes.len() > 64 {
            return Err("more than 64 value rules".into());
        }
        let names = Names::new(settings);
        for stem in names.stems() {
            literals.push(stem);
            owners.push(None);
        }
        let prefilter = DFA::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&literals)
            .map_err(|e| format!("prefilter: {e}"))?;
        let start = prefilter.start_state(Anchored::No).map_err(|e| format!("prefilter: {e}"))?;
        let disabled = settings.disabled_rules.clone();
        Ok(Self { prefilter, start, owners, regexes, disabled, names })
    }

    /// Whether a name announces a credential, and in what kind of value. `hits` is what a scan of it saw.
    pub(super) fn sensitivity(&self, name: &str, hits: Hits) -> Option<Sensitivity> {
        if hits.stem { self.names.sensitivity(name) } else { None }
    }

    /// Whether the rule of that name is switched on.
    pub(super) fn is_on(&self, rule: &str) -> bool {
        self.disabled.is_empty() || !self.disabled.contains(rule)
    }

    /// One pass over the text, saying what is worth a closer look.
    pub(super) fn scan(&self, text: &str) -> Hits {
        let mut hits = Hits::default();
        self.literals(text, |owner, _| match owner {
            Some(rule) => hits.rules |= 1 << rule,
            None => hits.stem = true,
        });
        hits.encoded = text.contains('%') && text.contains('=');
        hits
    }

    /// Reports every literal in the text, overlapping ones too, in the order of their ends.
    fn literals(&self, text: &str, mut report: impl FnMut(Option<usize>, Range<usize>)) {
        let mut state = self.start;
        for (index, byte) in text.bytes().enumerate() {
            state = self.prefilter.next_state(Anchored::No, state, byte);
            if !self.prefilter.is_special(state) || !self.prefilter.is_match(state) {
                continue;
            }
            for nth in 0..self.prefilter.match_len(state) {
                let pattern = self.prefilter.match_pattern(state, nth);
                let start = (index + 1).saturating_sub(self.prefilter.pattern_len(pattern));
                report(self.owners.get(pattern.as_usize()).copied().flatten(), start..index + 1);
            }
        }
    }

    /// The secrets in a text: sorted, disjoint, none of them already masked.
    pub(super) fn find(&self, text: &str, hits: Hits) -> Vec<Finding> {
        if hits == Hits::default() {
            return Vec::new();
        }
        let mut findings = Vec::new();
        for (index, (shape, regex)) in SHAPES.iter().zip(&self.regexes).enumerate() {
            if hits.rules & (1 << index) == 0 {
                continue;
            }
            for captures in regex.captures_iter(text) {
                let Some(secret) = captures.get(1).or_else(|| captures.get(0)) else { continue };
                if !is_marked(secret.as_str()) && shape.guard.passes(secret.as_str()) {
                    findings.push(Finding::credential(secret.range(), shape.name, true));
                }
            }
        }
        if hits.stem {
            let mut stems = Vec::new();
            self.literals(text, |owner, range| {
                if owner.is_none() {
                    stems.push(range);
                }
            });
            assign::find(text, stems, &self.names, &mut findings);
        }
        if hits.encoded {
            assign::find_encoded(text, &self.names, &mut findings);
        }
        findings.retain(|finding| self.is_on(finding.rule));
        merge(findings)
    }
}

/// Whether a text begins with what stands for a secret, so that it was masked before. Where it goes on as a word would, a
/// caller wrote that mark.
pub(super) fn is_marked(text: &str) -> bool {
    text.strip_prefix(MARK).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Sorts, and joins what overlaps; the outermost, or of equals the first, gives the name.
pub(super) fn merge(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| finding.range.start);
    let mut merged: Vec<Finding> = Vec::with_capacity(findings.len());
    for next in findings {
        match merged.last_mut() {
            Some(last) if next.range.start < last.range.end => {
                // A hash of one part would tell of the whole.
                if next.op == Op::Mask || last.range.end < next.range.end {
                    (last.op, last.mark) = (Op::Mask, Cow::Borrowed(MARK));
                }
                last.range.end = last.range.end.max(next.range.end);
                last.sure |= next.sure;
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// Replaces the findings in a text by their marks.
pub(super) fn masked(text: &str, findings: &[Finding]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut from = 0;
    for finding in findings {
        result.push_str(text.get(from..finding.range.start).unwrap_or_default());
        result.push_str(&finding.mark);
        from = finding.range.end;
    }
    result.push_str(text.get(from..).unwrap_or_default());
    result
}

impl Guard {
    fn passes(self, secret: &str) -> bool {
        match self {
            Self::None => true,
            Self::Random => looks::looks_random(secret),
            Self::Literal => !looks::is_placeholder(secret),
            Self::UserPassword => user_password(secret).is_some(),
            Self::Dense => {
                let has = |test: fn(&u8) -> bool| secret.as_bytes().iter().any(test);
                let run = secret.split(['-', '_']).any(|part| part.len() >= 16);
                has(u8::is_ascii_digit) && (has(u8::is_ascii_uppercase) || run)
            }
        }
    }
}

/// The password in the credentials of HTTP's Basic scheme (RFC 7617), which a policy may have decoded and quoted.
pub(super) fn user_password(credentials: &str) -> Option<String> {
    let unpadded = credentials.trim_end_matches('=');
    let decoded = base64::engine::general_purpose::STANDARD_NO_PAD.decode(unpadded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (_, password) = text.split_once(':')?;
    (!text.contains(char::is_control)).then(|| password.to_owned())
}

#[cfg(test)]
mod tests;
