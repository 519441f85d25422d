//! `[redaction]`, validated: what the redactor takes.

use super::raw::nearest;
use super::{RawRedaction, RawTreatment};
use crate::redact::{self, MIN_FIELD_BYTES, PersonalData, Settings, Treatment};
use crate::text::plain;

/// Checks the names of rules and members; what is wrong goes to `problems`.
pub(super) fn validate(raw: RawRedaction, problems: &mut Vec<String>) -> Settings {
    let rules = redact::rules();
    for name in raw.disabled_rules.iter().filter(|name| !rules.contains(name.as_str())) {
        let nearest = nearest(name, rules.iter().copied())
            .map_or_else(String::new, |rule| format!("; did you mean `{rule}`?"));
        problems.push(format!("`redaction.disabled_rules`: `{name}` is no built-in rule{nearest}"));
    }
    for (key, names) in [("key_names", &raw.key_names), ("allow_key_names", &raw.allow_key_names)] {
        for name in names.iter().filter(|name| plain(name).is_empty()) {
            problems.push(format!("`redaction.{key}`: `{name}` has no letter or digit"));
        }
    }
    let is_key = |name: &&String| raw.key_names.iter().any(|key| plain(key) == plain(name));
    for name in raw.allow_key_names.iter().filter(is_key) {
        problems.push(format!("`redaction.allow_key_names`: `{name}` is in `redaction.key_names` too"));
    }
    if raw.max_field_bytes < MIN_FIELD_BYTES {
        problems.push(format!("`redaction.max_field_bytes` must be {MIN_FIELD_BYTES} or more"));
    }
    let personal = raw.personal_data;
    Settings {
        disabled_rules: raw.disabled_rules.into_iter().collect(),
        key_names: raw.key_names,
        allow_key_names: raw.allow_key_names,
        personal_data: PersonalData {
            email: treatment(personal.email),
            phone: treatment(personal.phone),
            payment_card: treatment(personal.payment_card),
            iban: treatment(personal.iban),
            national_id: treatment(personal.national_id),
        },
        max_field_bytes: raw.max_field_bytes,
    }
}

fn treatment(raw: RawTreatment) -> Treatment {
    match raw {
        RawTreatment::Off => Treatment::Off,
        RawTreatment::Mask => Treatment::Mask,
        RawTreatment::Hash => Treatment::Hash,
    }
}
