//! What is different between two policy sets, policy by policy: what a reviewer of a publication asks first.

use std::collections::BTreeMap;

use serde::Serialize;

use super::set::PolicySet;

/// The difference from one set to another, each list sorted by policy id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Policies only the newer set has.
    pub added: Vec<Version>,
    /// Policies only the older set has.
    pub removed: Vec<Version>,
    /// Policies both have, in different versions.
    pub changed: Vec<Changed>,
}

/// A policy in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyVersion)]
pub struct Version {
    /// Its id.
    pub policy_id: String,
    /// `sha256:` and hex.
    pub policy_version: String,
}

/// A policy in two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyChanged)]
pub struct Changed {
    /// Its id.
    pub policy_id: String,
    /// The version in the older set.
    pub before: String,
    /// The version in the newer set.
    pub after: String,
}

impl Changes {
    /// What leads from one set to another.
    #[must_use]
    pub fn between(before: &PolicySet, after: &PolicySet) -> Self {
        let (mut old, new) = (versions(before), versions(after));
        let mut changes = Self::default();
        for (id, version) in new {
            match old.remove(id) {
                None => changes.added.push(Version::new(id, version)),
                Some(same) if same == version => {}
                Some(other) => changes.changed.push(Changed {
                    policy_id: id.to_owned(),
                    before: other.to_owned(),
                    after: version.to_owned(),
                }),
            }
        }
        changes.removed = old.into_iter().map(|(id, version)| Version::new(id, version)).collect();
        changes
    }
}

impl Version {
    fn new(id: &str, version: &str) -> Self {
        Self { policy_id: id.to_owned(), policy_version: version.to_owned() }
    }
}

fn versions(set: &PolicySet) -> BTreeMap<&str, &str> {
    set.policies().iter().map(|policy| (&*policy.id, &*policy.version)).collect()
}
