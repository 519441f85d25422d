//! Which decisions a body is about: the filters that `/v1/audit` takes as parameters, as members of an object.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::Object;
use crate::ledger::Filter;
use crate::ledger::filter::parameters::{Parameter, unknown};

/// Filters; everything given must hold. A list is met by any of its values.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Selection {
    #[serde(flatten)]
    given: Object,
}

impl Selection {
    /// As a filter of the ledger's reader. The error says what is malformed.
    pub fn filter(self, now_ms: i64) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, value) in &self.given {
            let values = match value {
                Value::Null => &[],
                Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            if Parameter::of(name).is_none() {
                return Err(unknown(name, &value.to_string(), &[]));
            }
            for value in values {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return Err(format!("`{name}` must be a text, and `{value}` is not")),
                };
                filter.set(name, &text, now_ms)?;
            }
        }
        Ok(filter)
    }
}
