//! Every word a finding can be coded with, and what it stands for.

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The word, as it is printed and as `# docket:allow` takes it.
    pub name: &'static str,
    /// Whether `# docket:allow` may turn it off: what keeps a set from being used cannot be turned off.
    pub is_warning: bool,
    /// What it says of the policy, in one line.
    pub meaning: &'static str,
}

const fn error(name: &'static str, meaning: &'static str) -> Code {
    Code { name, is_warning: false, meaning }
}

const fn warning(name: &'static str, meaning: &'static str) -> Code {
    Code { name, is_warning: true, meaning }
}

/// All kinds, errors first, each sorted by name.
pub const CODES: [Code; 36] = [
    error(
        "compile",
        "the engine cannot prepare it; mostly a variable that nothing binds, or two rules that conflict",
    ),
    error("conflict", "a name means two things: rule and package, value and set, two defaults"),
    error("data", "a data file cannot be read"),
    error("data_conflict", "two data files, or a rule and a data file, claim the same place"),
    error("duplicate_id", "two policies have the same `custom.id`"),
    error("effect_shape", "`allow`, `deny` or `require_approval` is a function or an object"),
    error("encoding", "a file is not UTF-8"),
    error("entrypoint", "the rule named as the entry point is none of the set"),
    error("internal", "docket itself failed while looking"),
    error("metadata", "a METADATA block cannot be read, or says what it cannot mean"),
    error("no_policy", "no package defines an effect"),
    error("recursion", "rules or functions use themselves"),
    error("refused_function", "a built-in that would reach the network or the host"),
    error("syntax", "it is not Rego"),
    error("too_deep", "it nests deeper than the engine's stack allows"),
    error("too_large", "a file is too large"),
    error(
        "unbound_variable",
        "a variable in a head, a comprehension's term or behind `not` that nothing binds",
    ),
    error("unknown_function", "there is no function of that name"),
    error("wrong_arity", "a function gets too many or too few arguments"),
    warning("allows_everything", "an `allow` without any condition, in a policy without targets"),
    warning("constant_effect", "all an effect's rules say `false`, so it never has one"),
    warning("default_allow", "`default allow := true`: whatever nobody thought of is allowed"),
    warning("ignored_file", "a `.json` or `.yaml` file that is not named as data files are"),
    warning(
        "mask_path",
        "a mask of `data.system.log` whose path leads neither to `/input` nor to `/result`, or to an item of an array",
    ),
    warning("misspelt_effect", "a rule that nobody uses, named almost like an effect"),
    warning("missing_id", "a policy without `custom.id`: its package path is its id, and changes with it"),
    warning("never_true", "a condition, or two of one body, that no call can satisfy"),
    warning("undefined_data", "a `data` path that nothing in the set defines"),
    warning("undefined_input", "an `input` path that no call has"),
    warning(
        "unknown_allow",
        "a `# docket:allow` comment that names no code, or one that cannot be turned off",
    ),
    warning("unknown_method", "a name almost like an MCP method, where one is expected"),
    warning("unreachable", "nobody may `initialize` or list tools, so that no MCP client gets in"),
    warning("unused_allow", "a `# docket:allow` comment that turns nothing off"),
    warning("unused_import", "an import that its file does not use"),
    warning("unused_rule", "a helper in a policy that nothing refers to"),
    warning("wrong_type", "an object of the call compared to a string"),
];

/// The code of that name.
pub(super) fn find(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name == name)
}
