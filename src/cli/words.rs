//! The words that some arguments are made of: completions and help list them, and what else is written for them is taken too.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::Error;
use clap::{Arg, Command};

use crate::ledger::filter::parameters::words;
use crate::ledger::{Column, Kind};
use crate::principal::Role;

/// Lists words and takes any text: whether it is one of them, or another name for one, is for the parser behind it to say.
#[derive(Clone)]
pub struct Words(Vec<&'static str>);

impl Words {
    /// Those of a column of the ledger; none, where it may hold anything.
    pub fn of(column: Column) -> Self {
        Self(words(column).into_iter().flatten().map(|(word, _)| word).collect())
    }

    /// The kinds of entries whose payloads can be removed by age.
    pub fn prunable() -> Self {
        Self(Kind::ALL.into_iter().filter(|kind| !kind.is_act()).map(Kind::as_str).collect())
    }

    /// The roles that principals may have.
    pub fn roles() -> Self {
        Self(Role::ALL.map(Role::as_str).to_vec())
    }
}

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}
