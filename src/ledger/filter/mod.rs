//! Which entries somebody wants to see: one type for lists, counts, statistics, streams, exports and explanations.
//!
//! A filter is made from names and values ([`parameters`]), and compiled to SQL with bound values here. Where rollups cover the
//! entries (`rollup`), its terms are looked up there instead; both say the same of every entry. What a principal may see at all
//! is a [`Scope`], which is part of the filter, so that nothing that reads by one can leave it out.
//!
//! It knows the columns of the ledger, and nothing of HTTP.

pub mod parameters;
mod time;

use rusqlite::types::Value;
use ulid::Ulid;

use super::Kind;
use crate::decision::Effect;
use crate::principal::{Principal, Role};

pub use time::{parse_span, parse_time};

/// Which way a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// What an entry can be found by, besides ids, times and durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// `decision`, `outcome`, …
    Kind,
    /// Dotted name of the event.
    EventType,
    /// `allow`, `deny`, `require_approval` or `partial`.
    Decision,
    /// `complete`, `error` or `timeout`.
    Status,
    /// What became of the call, as [`OUTCOMES`] has it.
    Outcome,
    /// The tenant.
    Zone,
    /// `enforce` or `monitor`.
    Mode,
    /// Digest of the manifest in force.
    ManifestSha,
    /// The id of who acted, as policies saw it.
    Subject,
    /// The authenticated agent.
    Agent,
    /// The person it acts for.
    User,
    /// That person's team.
    Team,
    /// The configured server.
    Server,
    /// The tool, or whatever else the call was about.
    Tool,
    /// The MCP or HTTP method.
    Action,
    /// A policy that determined the decision.
    Policy,
    /// The version of such a policy.
    PolicyVersion,
    /// A rule that spoke.
    Rule,
    /// The configured classification of the tool.
    Classification,
}

/// The words of [`Column::Outcome`]: what was recorded of a call that went on, or, of one that did not, why.
pub const OUTCOMES: [&str; 6] = ["success", "denied", "error", "pending_approval", "disconnected", "unknown"];

/// SQL for [`Column::Outcome`] where the outcome entry of a decision is joined as `o`.
pub(super) const OUTCOME_SQL: &str = "coalesce(l.outcome, o.outcome, CASE WHEN l.kind = 'decision' AND NOT l.forwarded THEN \
     CASE l.decision WHEN 'deny' THEN 'denied' WHEN 'require_approval' THEN 'pending_approval' END END)";

/// SQL for how long a call took, likewise.
pub(super) const DURATION_SQL: &str = "coalesce(l.duration_us, o.duration_us)";

/// Joins payloads as `p`.
pub(super) const JOIN_PAYLOAD: &str = " LEFT JOIN payloads p ON p.seq = l.seq";

/// Joins the outcome entry of a decision as `o`.
pub(super) const JOIN_OUTCOME: &str = " LEFT JOIN leaves o ON l.kind = 'decision' AND l.forwarded AND o.call_id = l.call_id \
     AND +o.kind = 'outcome'";

impl Column {
    /// Every column, in the order in which it is documented.
    pub const ALL: [Self; 19] = [
        Self::Kind,
        Self::EventType,
        Self::Decision,
        Self::Status,
        Self::Outcome,
        Self::Zone,
        Self::Mode,
        Self::ManifestSha,
        Self::Subject,
        Self::Agent,
        Self::User,
        Self::Team,
        Self::Server,
        Self::Tool,
        Self::Action,
        Self::Policy,
        Self::PolicyVersion,
        Self::Rule,
        Self::Classification,
    ];

    /// The name of the filter on it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::EventType => "event_type",
            Self::Decision => "decision",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::Zone => "zone",
            Self::Mode => "mode",
            Self::ManifestSha => "manifest_sha",
            Self::Subject => "subject",
            Self::Agent => "agent",
            Self::User => "user",
            Self::Team => "team",
            Self::Server => "server",
            Self::Tool => "tool",
            Self::Action => "action",
            Self::Policy => "policy",
            Self::PolicyVersion => "policy_version",
            Self::Rule => "rule",
            Self::Classification => "classification",
        }
    }

    /// The column of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    /// Whether it is in the payload, and goes with it.
    pub(super) fn is_in_payload(self) -> bool {
        self >= Self::Subject
    }

    /// SQL for its value; the unary plus keeps SQLite from walking an index that is not in the order of the list.
    fn sql(self) -> Where {
        Where::Is(match self {
            Self::Kind => "+l.kind",
            Self::EventType => "l.event_type",
            Self::Decision => "+l.decision",
            Self::Status => "l.evaluation_status",
            Self::Outcome => OUTCOME_SQL,
            Self::Zone => "l.zone",
            Self::Mode => "l.mode",
            Self::ManifestSha => "l.manifest_sha",
            Self::Subject => "p.subject_id",
            Self::Agent => "p.agent",
            Self::User => "p.user",
            Self::Team => "p.team",
            Self::Server => "p.server",
            Self::Tool => "p.resource_id",
            Self::Action => "p.action_name",
            Self::Classification => {
                "CASE WHEN json_valid(p.metadata) THEN json_extract(p.metadata, '$.classification') END"
            }
            Self::Policy => return Where::Any("p.determining_policies", "policy_id"),
            Self::PolicyVersion => return Where::Any("p.determining_policies", "policy_version"),
            Self::Rule => return Where::Any("p.diagnostics", "rule"),
        })
    }
}

/// Where a column's values are.
enum Where {
    /// One, by this expression.
    Is(&'static str),
    /// A member of any element of this array.
    Any(&'static str, &'static str),
}

/// One condition: the column has one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What is looked at.
    pub column: Column,
    /// One of these will do; none will, if there are none.
    pub any: Vec<String>,
    /// Whether a part of the value is enough, whatever the case of its ASCII letters.
    pub part: bool,
}

impl Term {
    /// Whether a text is what it asks for.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        if self.part {
            let text = text.to_ascii_lowercase();
            self.any.iter().any(|wanted| text.contains(&wanted.to_ascii_lowercase()))
        } else {
            self.any.iter().any(|wanted| wanted == text)
        }
    }

    fn compile(&self, values: &mut Vec<Value>) -> String {
        let test = |expression: &str, values: &mut Vec<Value>| {
            let texts = self.any.iter();
            if self.part {
                values.extend(texts.map(|text| Value::Text(text.to_ascii_lowercase())));
                let each = vec![format!("instr(lower({expression}), ?) > 0"); self.any.len()];
                format!("({})", if each.is_empty() { "0".to_owned() } else { each.join(" OR ") })
            } else {
                values.extend(texts.map(|text| Value::Text(text.clone())));
                format!("{expression} IN ({})", vec!["?"; self.any.len()].join(","))
            }
        };
        match self.column.sql() {
            Where::Is(expression) => test(expression, values),
            // A payload may have been written over: what is no array of objects has no such member.
            Where::Any(part, member) => {
                let test = test(&format!("json_extract(j.value, '$.{member}')"), values);
                format!(
                    "CASE WHEN json_valid({part}) THEN EXISTS (SELECT 1 FROM json_each({part}) j \
                     WHERE CASE j.type WHEN 'object' THEN {test} ELSE 0 END) ELSE 0 END"
                )
            }
        }
    }
}

/// What a principal may see. Nothing set is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only entries of these tenants.
    pub zones: Option<Vec<String>>,
    /// Only entries of this team.
    pub team: Option<String>,
    /// Only entries of this person.
    pub user: Option<String>,
    /// Only calls, what became of them and how they are explained: what people did with docket itself names no tenant.
    pub calls: bool,
    /// Only calls that were held for a person.
    pub held: bool,
}

impl Scope {
    /// What of the ledger's content a principal may see.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        let Principal { role, zones, team, user, .. } = principal;
        let all = Self { zones: zones.clone(), calls: zones.is_some(), ..Self::default() };
        let calls = Self { calls: true, ..all.clone() };
        let nothing = Self { zones: Some(Vec::new()), ..calls.clone() };
        match (role, team, user) {
            (Role::Admin, ..) => Self::default(),
            (Role::Auditor, ..) => all,
            (Role::Lead, Some(team), _) => Self { team: Some(team.clone()), ..calls },
            (Role::User | Role::Author, _, Some(user)) => Self { user: Some(user.clone()), ..calls },
            (Role::Approver, ..) => Self { held: true, ..calls },
            // An author without a person sees no content.
            (Role::Lead | Role::User | Role::Author | Role::Agent, ..) => nothing,
        }
    }

    /// Whose calls a principal may have decided again, without seeing what is in them.
    #[must_use]
    pub fn of_traffic(principal: &Principal) -> Self {
        match principal.role {
            Role::Author => Self { zones: principal.zones.clone(), calls: true, ..Self::default() },
            _ => Self::of(principal),
        }
    }

    /// The same tenants' calls, whoever made them: for what belongs to a call that may be seen.
    #[must_use]
    pub fn company(&self) -> Self {
        Self { zones: self.zones.clone(), calls: self.calls, ..Self::default() }
    }

    fn terms(&self) -> impl Iterator<Item = Term> {
        let one = |column, value: &Option<String>| {
            value.clone().map(|value| Term { column, any: vec![value], part: false })
        };
        let zones = self.zones.clone().map(|any| Term { column: Column::Zone, any, part: false });
        let calls = self.calls.then(|| {
            let kinds = [Kind::Decision, Kind::Outcome, Kind::Trace].map(|kind| kind.as_str().to_owned());
            Term { column: Column::Kind, any: kinds.to_vec(), part: false }
        });
        let held = self.held.then(|| {
            let effect = Effect::RequireApproval.as_str().to_owned();
            Term { column: Column::Decision, any: vec![effect], part: false }
        });
        [zones, calls, held, one(Column::Team, &self.team), one(Column::User, &self.user)]
            .into_iter()
            .flatten()
    }
}

/// Which entries to list. Everything set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What principals may see; it holds whatever else is asked.
    pub scope: Scope,
    /// The entry's own id.
    pub id: Option<String>,
    /// The caller's request id.
    pub request_id: Option<String>,
    /// What joins the entries of one call.
    pub call_id: Option<String>,
    /// Conditions on columns.
    pub terms: Vec<Term>,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Before this time, in milliseconds since the Unix epoch.
    pub until_ms: Option<i64>,
    /// The call took at least this long, in microseconds.
    pub min_duration_us: Option<i64>,
    /// Only sequence numbers above this.
    pub after_seq: Option<i64>,
    /// Only sequence numbers below this.
    pub before_seq: Option<i64>,
    /// Leave out this many of the first.
    pub skip: u64,
    /// At most this many.
    pub limit: Option<u32>,
    /// Which way.
    pub order: Order,
}

/// SQL that selects the entries of a filter from `leaves l`.
pub(super) struct Compiled {
    /// Whether the clauses speak of payloads.
    pub reads_payloads: bool,
    /// Whether they speak of outcomes of decisions.
    pub reads_outcomes: bool,
    /// Begins with ` WHERE`, or is empty.
    pub clauses: String,
    /// To be bound, in order.
    pub values: Vec<Value>,
}

impl Filter {
    /// The same filter, and the column has this value.
    #[must_use]
    pub fn with(mut self, column: Column, value: impl Into<String>) -> Self {
        self.terms.push(Term { column, any: vec![value.into()], part: false });
        self
    }

    /// What comes after the entry of this number, in the order of the list.
    #[must_use]
    pub fn from(mut self, start: Option<i64>) -> Self {
        match (self.order, start) {
            (_, None) => {}
            (Order::Newest, Some(seq)) => {
                self.before_seq = Some(self.before_seq.map_or(seq, |before| before.min(seq)));
            }
            (Order::Oldest, Some(seq)) => {
                self.after_seq = Some(self.after_seq.map_or(seq, |after| after.max(seq)));
            }
        }
        self
    }

    /// Only decisions.
    #[must_use]
    pub fn decisions(self) -> Self {
        self.with(Column::Kind, "decision")
    }

    /// Every condition on a column, those of the scope first.
    pub(super) fn all_terms(&self) -> Vec<Term> {
        self.scope.terms().chain(self.terms.iter().cloned()).collect()
    }

    /// Whether an index leads to the few entries that can match.
    pub(super) fn is_lookup(&self) -> bool {
        self.id.is_some() || self.request_id.is_some() || self.call_id.is_some()
    }

    /// Whether the place of an entry alone says that it matches.
    pub(super) fn is_place_only(&self) -> bool {
        !self.is_lookup()
            && self.all_terms().is_empty()
            && self.since_ms.is_none()
            && self.until_ms.is_none()
            && self.min_duration_us.is_none()
    }

    /// As SQL. The one place where conditions become SQL, whoever reads.
    pub(super) fn compile(&self) -> Compiled {
        let (mut clauses, mut values) = (Vec::new(), Vec::new());
        let terms = self.all_terms();
        let lookups = [("l.id", &self.id), ("l.request_id", &self.request_id), ("l.call_id", &self.call_id)];
        for (column, wanted) in lookups {
            if let Some(text) = wanted {
                clauses.push(format!("{column} = ?"));
                values.push(Value::Text(text.clone()));
            }
        }
        for (clause, seq) in [("l.seq > ?", self.after_seq), ("l.seq < ?", self.before_seq)] {
            if let Some(seq) = seq {
                clauses.push(clause.to_owned());
                values.push(Value::Integer(seq));
            }
        }
        // Ids are ULIDs of the entry's time.
        let earliest = |ms: i64| Ulid::from_parts(u64::try_from(ms).unwrap_or(0), 0).to_string();
        for (clause, ms) in [("+l.id >= ?", self.since_ms), ("+l.id < ?", self.until_ms)] {
            if let Some(ms) = ms {
                clauses.push(clause.to_owned());
                values.push(Value::Text(earliest(ms)));
            }
        }
        for term in &terms {
            clauses.push(term.compile(&mut values));
        }
        if let Some(least) = self.min_duration_us {
            clauses.push(format!("{DURATION_SQL} >= ?"));
            values.push(Value::Integer(least));
        }
        let reads_payloads = terms.iter().any(|term| term.column.is_in_payload());
        let reads_outcomes =
            self.min_duration_us.is_some() || terms.iter().any(|term| term.column == Column::Outcome);
        let clauses =
            if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) };
        Compiled { reads_payloads, reads_outcomes, clauses, values }
    }
}

impl Compiled {
    /// The joins that the clauses need, to be written after `FROM leaves l`.
    pub fn joins(&self) -> String {
        let payload = if self.reads_payloads { JOIN_PAYLOAD } else { "" };
        format!("{payload}{}", self.outcome_join())
    }

    /// Likewise, where payloads are joined already.
    pub fn outcome_join(&self) -> &'static str {
        if self.reads_outcomes { JOIN_OUTCOME } else { "" }
    }
}
