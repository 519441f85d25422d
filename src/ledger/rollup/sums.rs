//! What the decisions of all blocks come to.

use std::collections::HashMap;

use super::block::ValueId;
use super::blocks::Group;
use super::codes::Tally;
use super::histogram::Histogram;
use super::summary::Counted;
use crate::ledger::filter::Column;

impl Counted {
    /// Adds others.
    pub(super) fn add(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.allow += other.allow;
        self.deny += other.deny;
        self.require_approval += other.require_approval;
        self.errors += other.errors;
    }
}

/// The decisions about calls for one server.
#[derive(Default)]
pub struct PerServer {
    pub counted: Counted,
    pub tools: Tally,
    /// Of denials only.
    pub policies: Tally,
    pub evaluations: Histogram,
    pub durations: Histogram,
}

/// All of them.
#[derive(Default)]
pub struct Sums {
    /// Entries of any kind that match.
    pub entries: u64,
    pub counted: Counted,
    pub servers: HashMap<Option<ValueId>, PerServer>,
    pub callers: Tally,
    pub outcomes: Tally,
}

impl Sums {
    /// Adds the decisions of a block; how many that were.
    pub fn add(&mut self, group: &Group<'_>) -> Counted {
        let mut counted = Counted::default();
        let (decided, denials) = (&group.decided, &group.denials);
        decided.codes(Column::Agent).tally(&group.decisions, denials, &mut self.callers);
        decided.codes(Column::Outcome).tally(&group.decisions, denials, &mut self.outcomes);
        let (tools, policies) = (decided.codes(Column::Tool), decided.codes(Column::Policy));
        // A call is for one server at most.
        let servers = decided.codes(Column::Server);
        let mut denied: HashMap<_, _> = servers.parts(denials).into_iter().collect();
        for (server, decisions) in servers.parts(&group.decisions) {
            let denials = denied.remove(&server).unwrap_or_default();
            let server = self.servers.entry(server).or_default();
            tools.tally(&decisions, &denials, &mut server.tools);
            policies.tally(&denials, &denials, &mut server.policies);
            decided.evaluations(&decisions, &mut server.evaluations);
            decided.durations(&decisions, &mut server.durations);
            let here = decided.counted(&decisions);
            server.counted.add(here);
            counted.add(here);
        }
        self.entries += group.matching.count();
        self.counted.add(counted);
        counted
    }
}
