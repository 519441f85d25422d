//! Random rules whose truth is known: the condition an explanation names must be the first that is false.
//!
//! The rules come from a small grammar; an evaluator of its own, which knows nothing of Rego, says what holds. It shares
//! with the explanation only the definition: the first condition for which no binding satisfies it with all before it, and
//! in a helper with several definitions that of the one with the fewest false conditions.

use std::cmp::Reverse;
use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const FIELDS: [&str; 4] = ["a", "b", "c", "d"];

struct World {
    fields: [i64; 4],
    xs: Vec<i64>,
}

/// `args.FIELD OP CONSTANT`, or the same of a local.
#[derive(Clone, Debug)]
struct Test {
    op: &'static str,
    constant: i64,
}

impl Test {
    fn holds(&self, value: i64) -> bool {
        match self.op {
            "==" => value == self.constant,
            "!=" => value != self.constant,
            "<" => value < self.constant,
            _ => value >= self.constant,
        }
    }
}

#[derive(Clone, Debug)]
enum Condition {
    Compare(usize, Test),
    /// Two statements: the element, and the test it must pass.
    SomeIn(Test),
    Every(Test),
    Comprehension(Test, i64),
    Helper(Vec<Vec<Condition>>),
    NotHelper(Vec<Vec<Condition>>),
    /// A helper whose definitions test the argument, each line one test.
    Function(usize, Vec<Vec<Test>>),
}

/// Takes choices from bytes; where they end, always the first.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, limit: u8) -> u8 {
        self.0.next().map_or(0, |byte| byte % limit)
    }

    fn test(&mut self) -> Test {
        Test { op: ["==", "!=", "<", ">="][usize::from(self.below(4))], constant: i64::from(self.below(4)) }
    }

    fn many<T>(&mut self, most: u8, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..=self.below(most)).map(|_| one(self)).collect()
    }

    fn condition(&mut self, depth: u8) -> Condition {
        match self.below(if depth == 0 { 5 } else { 10 }) {
            0 | 1 => Condition::Compare(usize::from(self.below(4)), self.test()),
            2 => Condition::SomeIn(self.test()),
            3 => Condition::Every(self.test()),
            4 => Condition::Comprehension(self.test(), i64::from(self.below(3))),
            5 | 6 => Condition::Helper(self.many(3, |c| c.many(3, |c| c.condition(depth - 1)))),
            7 => Condition::NotHelper(self.many(2, |c| c.many(2, |c| c.condition(depth - 1)))),
            _ => Condition::Function(usize::from(self.below(4)), self.many(3, |c| c.many(3, Choices::test))),
        }
    }
}

/// Writes rules, and says for each the line of the condition that is missing.
struct Writer<'w> {
    text: String,
    world: &'w World,
    names: usize,
    pending: Vec<(String, Pending)>,
}

enum Pending {
    Rule(Vec<Vec<Condition>>),
    Function(Vec<Vec<Test>>),
}

/// One body: how many statements are false and true, and where the first false one leads.
struct Body {
    fails: usize,
    holds: usize,
    missing: Option<Missed>,
}

#[derive(Clone)]
enum Missed {
    Line(usize),
    /// The helper's body, by its line.
    In(String),
}

impl Writer<'_> {
    fn line(&mut self, text: &str) -> usize {
        self.text.push_str(text);
        self.text.push('\n');
        self.text.matches('\n').count()
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn body(&mut self, conditions: &[Condition]) -> Body {
        let mut body = Body { fails: 0, holds: 0, missing: None };
        for condition in conditions {
            for (holds, missed) in self.condition(condition) {
                match holds {
                    Some(true) => body.holds += 1,
                    Some(false) => {
                        body.fails += 1;
                        body.missing.get_or_insert(missed);
                    }
                    None => {}
                }
            }
        }
        body
    }

    /// Writes one condition and answers, for each of its statements, whether it holds (`None`: it cannot be tested).
    fn condition(&mut self, condition: &Condition) -> Vec<(Option<bool>, Missed)> {
        let (fields, xs) = (self.world.fields, self.world.xs.clone());
        match condition {
            Condition::Compare(field, test) => {
                let line = self.line(&format!("\targs.{} {} {}", FIELDS[*field], test.op, test.constant));
                vec![(Some(test.holds(fields[*field])), Missed::Line(line))]
            }
            Condition::SomeIn(test) => {
                let name = self.name();
                let first = self.line(&format!("\tsome {name} in args.xs"));
                let second = self.line(&format!("\t{name} {} {}", test.op, test.constant));
                let any = xs.iter().any(|x| test.holds(*x));
                let second_holds = if xs.is_empty() { None } else { Some(any) };
                vec![(Some(!xs.is_empty()), Missed::Line(first)), (second_holds, Missed::Line(second))]
            }
            Condition::Every(test) => {
                let name = self.name();
                self.line(&format!("\tevery {name} in args.xs {{"));
                let inner = self.line(&format!("\t\t{name} {} {}", test.op, test.constant));
                self.line("\t}");
                vec![(Some(xs.iter().all(|x| test.holds(*x))), Missed::Line(inner))]
            }
            Condition::Comprehension(test, least) => {
                let name = self.name();
                let line = self.line(&format!(
                    "\tcount([{name} | some {name} in args.xs; {name} {} {}]) >= {least}",
                    test.op, test.constant
                ));
                let found = xs.iter().filter(|x| test.holds(**x)).count();
                vec![(Some(i64::try_from(found).unwrap() >= *least), Missed::Line(line))]
            }
            Condition::Helper(bodies) => {
                let name = self.name();
                self.line(&format!("\t{name}"));
                let holds = bodies.iter().any(|body| body.iter().all(|condition| self.holds(condition)));
                self.pending.push((name.clone(), Pending::Rule(bodies.clone())));
                vec![(Some(holds), Missed::In(name))]
            }
            Condition::NotHelper(bodies) => {
                let name = self.name();
                let line = self.line(&format!("\tnot {name}"));
                let holds = bodies.iter().any(|body| body.iter().all(|condition| self.holds(condition)));
                self.pending.push((name, Pending::Rule(bodies.clone())));
                vec![(Some(!holds), Missed::Line(line))]
            }
            Condition::Function(field, bodies) => {
                let name = self.name();
                self.line(&format!("\t{name}(args.{})", FIELDS[*field]));
                let value = fields[*field];
                let holds = bodies.iter().any(|body| body.iter().all(|test| test.holds(value)));
                self.pending.push((format!("{name}/{value}"), Pending::Function(bodies.clone())));
                vec![(Some(holds), Missed::In(format!("{name}/{value}")))]
            }
        }
    }

    fn holds(&self, condition: &Condition) -> bool {
        let World { fields, xs } = self.world;
        let any = |bodies: &[Vec<Condition>]| bodies.iter().any(|body| body.iter().all(|c| self.holds(c)));
        match condition {
            Condition::Compare(field, test) => test.holds(fields[*field]),
            Condition::SomeIn(test) => xs.iter().any(|x| test.holds(*x)),
            Condition::Every(test) => xs.iter().all(|x| test.holds(*x)),
            Condition::Comprehension(test, least) => {
                i64::try_from(xs.iter().filter(|x| test.holds(**x)).count()).unwrap() >= *least
            }
            Condition::Helper(bodies) => any(bodies),
            Condition::NotHelper(bodies) => !any(bodies),
            Condition::Function(field, bodies) => {
                bodies.iter().any(|body| body.iter().all(|t| t.holds(fields[*field])))
            }
        }
    }
}

/// The text of the policy, and for each `allow` rule the line that must be named; `None` where it applies.
fn written(rules: &[Vec<Condition>], world: &World) -> (String, Vec<Option<usize>>) {
    let text = "package p\n\nargs := input.context.arguments\n\n".to_owned();
    let mut writer = Writer { text, world, names: 0, pending: Vec::new() };
    let mut tops = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        writer.line(&format!("allow contains {{\"rule\": \"r{number}\"}} if {{"));
        tops.push(writer.body(rule).missing);
        writer.line("}\n");
    }
    let mut helpers: std::collections::BTreeMap<String, Option<Missed>> = std::collections::BTreeMap::new();
    while let Some((name, pending)) = writer.pending.pop() {
        let mut bodies = Vec::new();
        match pending {
            Pending::Rule(rules) => {
                for rule in rules {
                    writer.line(&format!("{name} if {{"));
                    bodies.push(writer.body(&rule));
                    writer.line("}\n");
                }
            }
            Pending::Function(rules) => {
                let (short, value) = name.split_once('/').unwrap();
                let value: i64 = value.parse().unwrap();
                for rule in rules {
                    writer.line(&format!("{short}(x) if {{"));
                    let mut body = Body { fails: 0, holds: 0, missing: None };
                    for test in rule {
                        let line = writer.line(&format!("\tx {} {}", test.op, test.constant));
                        if test.holds(value) {
                            body.holds += 1;
                        } else {
                            body.fails += 1;
                            body.missing.get_or_insert(Missed::Line(line));
                        }
                    }
                    bodies.push(body);
                    writer.line("}\n");
                }
            }
        }
        let nearest = bodies.into_iter().min_by_key(|body| (body.fails, Reverse(body.holds)));
        helpers.insert(name, nearest.and_then(|body| body.missing));
    }
    let follow = |mut missed: Option<Missed>| loop {
        match missed {
            Some(Missed::In(name)) => missed = helpers[&name].clone(),
            Some(Missed::Line(line)) => return Some(line),
            None => return None,
        }
    };
    let lines = tops.into_iter().map(follow).collect();
    (writer.text, lines)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_condition_named_is_the_first_that_is_false(
        bytes in prop::collection::vec(any::<u8>(), 0..160),
        fields in prop::array::uniform4(0i64..4),
        xs in prop::collection::vec(0i64..4, 0..4),
    ) {
        let world = World { fields, xs };
        let mut choices = Choices(bytes.iter());
        let rules = choices.many(3, |c| c.many(5, |c| c.condition(2)));
        let (text, expected) = written(&rules, &world);
        let arguments = json!({"a": world.fields[0], "b": world.fields[1], "c": world.fields[2], "d": world.fields[3], "xs": world.xs});
        let found = set(&[("p.rego", &text)]).trace(&call(&arguments), &moment());
        let applies = expected.iter().any(Option::is_none);
        prop_assert_eq!(found.decision.effect == Effect::Allow, applies, "{}\n{}", text, arguments);
        // Every rule's own conditions have their truth, whatever the effect.
        for (number, missing) in expected.iter().enumerate() {
            let name = format!("r{number}");
            let trace = found.trace.as_ref().unwrap().iter().find(|rule| rule.rule == name).unwrap();
            prop_assert_eq!(trace.applies, Some(missing.is_none()), "{} {}\n{}", name, arguments, text);
        }
        if !applies {
            prop_assert_eq!(found.why_not.len(), rules.len());
            for (number, line) in expected.iter().enumerate() {
                let name = format!("r{number}");
                let missing = found.why_not.iter().find(|missing| missing.rule == name).unwrap();
                let mut shown = String::new();
                let _ = write!(shown, "{name}: {:?} via {:?}\n{arguments}\n{text}", missing.condition, missing.via);
                prop_assert_eq!(&missing.uncertain, &None, "{}", shown);
                prop_assert_eq!(usize::try_from(missing.condition.line).ok(), *line, "{}", shown);
            }
        }
    }
}
