//! One operation of an OpenAPI document: what is asked, what is answered, and what goes wrong.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::parameters;
use crate::access::routes;
use crate::web::{PROBLEM_JSON, Problem, ProblemType};

/// Schemas by name, as far as they are referred to.
#[derive(Default)]
pub(super) struct Schemas(Vec<(String, RefOr<Schema>)>);

/// A schema and what it refers to, to be collected.
type Collect = fn(&mut Schemas) -> Value;

impl Schemas {
    /// Refers to the schema of a type.
    fn reference<T: ToSchema>(&mut self) -> Value {
        let name = T::name().into_owned();
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name.clone(), T::schema()));
            T::schemas(&mut self.0);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// All of them.
    pub fn finish(self) -> Value {
        let named: BTreeMap<String, Value> =
            self.0.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
        json!(named)
    }
}

/// A body that is not one JSON value, or is not docket's.
#[derive(Clone, Copy)]
pub(super) struct Content {
    pub media_type: &'static str,
    /// Whether it is text; bytes otherwise.
    pub is_text: bool,
}

/// What comes with a status that is no problem.
struct Answer {
    status: u16,
    about: &'static str,
    contents: Vec<(&'static str, Collect)>,
    headers: Vec<(&'static str, &'static str)>,
}

/// One operation.
pub(super) struct Operation {
    pub method: Method,
    /// As OpenAPI writes it.
    pub path: &'static str,
    /// Under which heading.
    pub tag: &'static str,
    /// Whether it is answered without a token.
    pub is_public: bool,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<(Collect, bool)>,
    answers: Vec<Answer>,
    problems: Vec<ProblemType>,
    /// What is passed on from the server behind it. Whatever goes wrong may be told in JSON-RPC's way then.
    relayed: Option<&'static str>,
}

fn schema_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    schemas.reference::<T>()
}

fn text(_: &mut Schemas) -> Value {
    json!({"type": "string"})
}

fn bytes(_: &mut Schemas) -> Value {
    json!({})
}

impl Operation {
    fn new(
        method: Method,
        tag: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            tag,
            id,
            summary,
            is_public: false,
            parameters: parameters::of_path(path),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
            relayed: None,
        }
    }

    pub fn get(tag: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, tag, path, id, summary)
    }

    pub fn post(tag: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, tag, path, id, summary)
    }

    pub fn delete(tag: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::DELETE, tag, path, id, summary)
    }

    /// Needs no token.
    pub fn public(self) -> Self {
        Self { is_public: true, ..self }
    }

    /// Takes these parameters too.
    pub fn taking(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Has a JSON body.
    pub fn body<T: ToSchema>(self) -> Self {
        Self { body: Some((schema_of::<T>, true)), ..self }.failing([ProblemType::InvalidRequest])
    }

    /// Has a JSON body that is another standard's.
    pub fn any_body(self) -> Self {
        Self { body: Some((bytes, true)), ..self }
    }

    /// May have a JSON body.
    pub fn maybe_body<T: ToSchema>(self) -> Self {
        Self { body: Some((schema_of::<T>, false)), ..self }.failing([ProblemType::InvalidRequest])
    }

    fn answering(mut self, status: u16, about: &'static str, contents: Vec<(&'static str, Collect)>) -> Self {
        self.answers.push(Answer { status, about, contents, headers: Vec::new() });
        self
    }

    /// Answers a JSON value.
    pub fn json<T: ToSchema>(self, status: u16, about: &'static str) -> Self {
        self.answering(status, about, vec![("application/json", schema_of::<T>)])
    }

    /// Answers one of two JSON values.
    pub fn either<T: ToSchema, U: ToSchema>(self, status: u16, about: &'static str) -> Self {
        let either: Collect =
            |schemas| json!({"anyOf": [schemas.reference::<T>(), schemas.reference::<U>()]});
        self.answering(status, about, vec![("application/json", either)])
    }

    /// Answers one JSON value a line.
    pub fn lines(self, about: &'static str) -> Self {
        self.contents(about, [Content { media_type: "application/x-ndjson", is_text: true }])
    }

    /// Answers something else, in one of several forms.
    pub fn contents<const N: usize>(self, about: &'static str, contents: [Content; N]) -> Self {
        let contents = contents.map(|it| (it.media_type, if it.is_text { text as Collect } else { bytes }));
        self.answering(200, about, contents.to_vec())
    }

    /// Answers without a body.
    pub fn empty(self, status: u16, about: &'static str) -> Self {
        self.answering(status, about, Vec::new())
    }

    /// Its last answer has an `ETag`, and `If-None-Match` spares sending it again.
    pub fn tagged(mut self) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push(("ETag", "Names this version of it, for `If-None-Match`."));
        }
        self.parameters.push(parameters::shared("If-None-Match"));
        self.empty(304, "It is the one that is there already.")
    }

    /// Its last answer has this header.
    pub fn header(mut self, name: &'static str, about: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, about));
        }
        self
    }

    /// Goes wrong in these ways, besides those of every operation.
    pub fn failing(mut self, problems: impl IntoIterator<Item = ProblemType>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// Passes on what another server answers, and may refuse as that would: by a JSON-RPC error.
    pub fn relaying(self, about: &'static str) -> Self {
        Self { relayed: Some(about), ..self }
    }

    /// Its path as the table of who may ask writes it.
    pub fn route(&self) -> String {
        // The number of a tile has as many segments as it needs.
        let path = self.path.replace("{tile}", "**");
        let segments = path.split('/').map(|it| if it.starts_with('{') { "*" } else { it });
        segments.collect::<Vec<_>>().join("/")
    }

    /// The operation as OpenAPI writes it.
    pub fn document(mut self, schemas: &mut Schemas) -> Value {
        self.parameters.push(parameters::shared("X-Request-Id"));
        if !self.is_public {
            let everywhere =
                [ProblemType::Unauthenticated, ProblemType::ForeignHost, ProblemType::TooManyRequests];
            self.problems.extend(everywhere);
        }
        if self.problems.contains(&ProblemType::LedgerUnreadable) {
            // Whatever reads the ledger waits for its turn.
            self.problems.push(ProblemType::TooManyQuestions);
        }
        let route = routes::all().find(|it| it.method() == self.method && it.path == self.route());
        if let Some(route) = route {
            self.problems.push(ProblemType::NotPermitted);
            if !route.takes_query {
                // There is none it takes.
                self.problems.push(ProblemType::InvalidParameter);
            }
        }
        let mut responses = Map::new();
        for answer in &self.answers {
            responses.insert(answer.status.to_string(), answer.document(schemas));
        }
        for (status, kinds) in by_status(&self.problems) {
            let told = failure(status, &kinds, schemas);
            match responses.get_mut(&status.to_string()).and_then(|it| it.get_mut("content")) {
                // A status that is an answer as well as a problem.
                Some(content) => {
                    if let (Some(content), Some(told)) =
                        (content.as_object_mut(), told.get("content").and_then(Value::as_object))
                    {
                        content.extend(told.clone());
                    }
                }
                None => drop(responses.insert(status.to_string(), told)),
            }
        }
        if let Some(about) = self.relayed {
            let failures = responses.iter_mut().filter(|(status, _)| status.starts_with(['4', '5']));
            for content in failures.filter_map(|(_, told)| told.get_mut("content")?.as_object_mut()) {
                content.insert("application/json".into(), json!({"schema": bytes(schemas)}));
            }
            responses.insert("default".into(), json!({"description": about, "headers": with_request_id()}));
        }
        let mut told = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag],
            "parameters": self.parameters,
            "responses": responses,
        });
        if let (Some(members), Some(route)) = (told.as_object_mut(), route) {
            let roles: Vec<&str> = route.who.iter().map(|role| role.as_str()).collect();
            let whole = if route.whole {
                " It is about every tenant at once: only those who see all of them may."
            } else {
                ""
            };
            members.insert(
                "description".into(),
                format!("For the roles `{}`.{whole}", roles.join("`, `")).into(),
            );
            members.insert("x-docket-roles".into(), json!(roles));
        }
        if let (Some(members), true) = (told.as_object_mut(), self.is_public) {
            members.insert("security".into(), json!([]));
        }
        if let (Some(members), Some((schema, required))) = (told.as_object_mut(), self.body) {
            let content = json!({"application/json": {"schema": schema(schemas)}});
            members.insert("requestBody".into(), json!({"required": required, "content": content}));
        }
        told
    }
}

impl Answer {
    fn document(&self, schemas: &mut Schemas) -> Value {
        let mut headers = with_request_id();
        for (name, about) in &self.headers {
            headers.insert(
                (*name).into(),
                json!({"description": about, "required": true, "schema": {"type": "string"}}),
            );
        }
        let mut told = json!({"description": self.about, "headers": headers});
        if let (false, Some(members)) = (self.contents.is_empty(), told.as_object_mut()) {
            let contents: Map<String, Value> = self
                .contents
                .iter()
                .map(|(media_type, schema)| ((*media_type).to_owned(), json!({"schema": schema(schemas)})))
                .collect();
            members.insert("content".into(), contents.into());
        }
        told
    }
}

fn with_request_id() -> Map<String, Value> {
    Map::from_iter([("X-Request-Id".to_owned(), json!({"$ref": "#/components/headers/X-Request-Id"}))])
}

/// The headers of every answer, by name.
pub(super) fn headers() -> Value {
    json!({"X-Request-Id": {"description": "The id of the request.", "required": true, "schema": {"type": "string"}}})
}

/// The problem types that come with each status.
fn by_status(problems: &[ProblemType]) -> BTreeMap<u16, Vec<ProblemType>> {
    let mut sorted: BTreeMap<u16, Vec<ProblemType>> = BTreeMap::new();
    for problem in problems {
        for status in problem.statuses() {
            let kinds = sorted.entry(*status).or_default();
            if !kinds.contains(problem) {
                kinds.push(*problem);
            }
        }
    }
    sorted
}

fn failure(status: u16, kinds: &[ProblemType], schemas: &mut Schemas) -> Value {
    let told: Vec<String> = kinds.iter().map(|kind| format!("{} (`{}`)", kind.title(), kind.uri())).collect();
    let schema = if kinds.contains(&ProblemType::PoliciesRejected) {
        let (problem, rejected) =
            (schemas.reference::<Problem>(), schemas.reference::<super::super::policies::Refused>());
        json!({"anyOf": [problem, rejected]})
    } else {
        schemas.reference::<Problem>()
    };
    let mut headers = with_request_id();
    let mut header = |name: &str, about: &str| {
        let told = json!({"description": about, "required": true, "schema": {"type": "string"}});
        headers.insert(name.to_owned(), told);
    };
    match status {
        401 => header("WWW-Authenticate", "How to identify oneself."),
        429 | 503 => header("Retry-After", "Seconds after which trying again may help."),
        _ => {}
    }
    json!({
        "description": told.join("; "),
        "headers": headers,
        "content": {PROBLEM_JSON: {"schema": schema}},
    })
}
