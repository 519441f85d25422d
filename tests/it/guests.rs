//! Redaction hooks made at test time: WebAssembly text in, component out, no toolchain. Beside one that does what hooks are for,
//! those that do what hooks must not.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What every guest has: memory, an allocator that only goes forward, and words to point to.
///
/// Of the interface's types in memory (the canonical ABI): a field has 20 bytes (pointer at 0, tag of the value at 8, its text
/// at 12), an edit has 24 (field at 0, tag of the action at 4, its payload at 8, category at 16), and the result 12 (tag at 0,
/// pointer and length at 4 and 8). Tags of values: null 0, boolean 1, number 2, text 3, array 4, object 5. Tags of actions:
/// remove 0, mask 1, mask-text 2, hash 3, keep-first 4, keep-last 5.
const PRELUDE: &str = r#"
  (import "docket:redaction/log@0.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "guest")
  (data (i32.const 32) "swordfish")
  (data (i32.const 48) "\ff\fe\fd")
  (data (i32.const 64) "Bad Category!")
  (global $next (mut i32) (i32.const 1024))
  (func $alloc (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
      (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
    (local.get $at))
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (call $alloc (local.get $size)))
  (func $ok (param $edits i32) (param $count i32) (result i32)
    (local $at i32)
    (local.set $at (call $alloc (i32.const 12)))
    (i32.store8 (local.get $at) (i32.const 0))
    (i32.store offset=4 (local.get $at) (local.get $edits))
    (i32.store offset=8 (local.get $at) (local.get $count))
    (local.get $at))
  (func $edit (param $at i32) (param $field i32) (param $action i32)
    (i32.store (local.get $at) (local.get $field))
    (i32.store offset=4 (local.get $at) (local.get $action))
    (i32.store offset=8 (local.get $at) (i32.const 1))
    (i32.store offset=16 (local.get $at) (i32.const 16))
    (i32.store offset=20 (local.get $at) (i32.const 5)))
  (func $none (result i32) (call $ok (i32.const 0) (i32.const 0)))
"#;

/// The parameters of `redact`, by the order in which the canonical ABI flattens them.
const REDACT: &str = r#"
  (func (export "docket:redaction/hook@0.1.0#redact")
    (param $record i32) (param $record_len i32) (param $request i32) (param $request_len i32)
    (param $decision i32) (param $decision_len i32) (param $policy i32) (param $policy_len i32)
    (param $hook i32) (param $hook_len i32) (param $settings i32) (param $settings_len i32)
    (param $fields i32) (param $count i32) (result i32)
    (local $i i32) (local $at i32) (local $edits i32) (local $n i32) (local $tag i32)
"#;

/// Masks every text and number.
pub const MASK_ALL: &str = r#"
    (local.set $edits (call $alloc (i32.mul (local.get $count) (i32.const 24))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (local.set $at (i32.add (local.get $fields) (i32.mul (local.get $i) (i32.const 20))))
      (local.set $tag (i32.load8_u offset=8 (local.get $at)))
      (if (i32.or (i32.eq (local.get $tag) (i32.const 2)) (i32.eq (local.get $tag) (i32.const 3)))
        (then
          (call $edit (i32.add (local.get $edits) (i32.mul (local.get $n) (i32.const 24))) (local.get $i) (i32.const 1))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (call $ok (local.get $edits) (local.get $n))
"#;

/// Takes nothing away.
pub const NOTHING: &str = "(call $none)";

/// One edit with this action of the first field that holds a text; `$edits` may be changed before it is handed over.
pub fn first_text(action: u32, then: &str) -> String {
    format!(
        r"
    (local.set $edits (call $alloc (i32.const 24)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (local.set $at (i32.add (local.get $fields) (i32.mul (local.get $i) (i32.const 20))))
      (br_if $done (i32.eq (i32.load8_u offset=8 (local.get $at)) (i32.const 3)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (if (i32.ge_u (local.get $i) (local.get $count)) (then (return (call $none))))
    (call $edit (local.get $edits) (local.get $i) (i32.const {action}))
    {then}
    (call $ok (local.get $edits) (i32.const 1))
"
    )
}

/// Does something with the last field that holds a text, which is at `$at`.
fn last_text(then: &str) -> String {
    format!(
        r"
    (local.set $i (local.get $count))
    (block $found (loop $next
      (if (i32.eqz (local.get $i)) (then (return (call $none))))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (local.set $at (i32.add (local.get $fields) (i32.mul (local.get $i) (i32.const 20))))
      (br_if $found (i32.eq (i32.load8_u offset=8 (local.get $at)) (i32.const 3)))
      (br $next)))
    {then}
"
    )
}

/// What hooks must not do, by name, with the cause that docket must give for it.
pub fn hostile() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("endless loop", "(loop $l (br $l)) (call $none)".into(), "deadline"),
        (
            "memory bomb",
            "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (call $none)".into(),
            "memory",
        ),
        ("deep recursion", "(call $recurse) (call $none)".into(), "stack"),
        ("trap", "unreachable".into(), "trap"),
        ("address beyond its memory", "(i32.load (i32.const -8))".into(), "trap"),
        (
            "huge reply",
            "(drop (memory.grow (i32.const 128))) (call $ok (i32.const 1024) (i32.const 300000))".into(),
            "output",
        ),
        ("reply beyond its memory", "(call $ok (i32.const -65536) (i32.const 10))".into(), "malformed"),
        ("result beyond its memory", "(i32.const -16)".into(), "malformed"),
        ("unknown action", first_text(9, ""), "malformed"),
        (
            "text that is not UTF-8",
            first_text(1, "(i32.store offset=16 (local.get $edits) (i32.const 48)) (i32.store offset=20 (local.get $edits) (i32.const 3))"),
            "malformed",
        ),
        (
            "error that quotes the secret",
            last_text(
                "(local.set $at (call $ok (i32.load offset=12 (local.get $at)) (i32.load offset=16 (local.get $at))))
                 (i32.store8 (local.get $at) (i32.const 1)) (local.get $at)",
            ),
            "error",
        ),
        ("field that is none", first_text(1, "(i32.store (local.get $edits) (i32.const 100000))"), "invalid_edit"),
        (
            "the same field twice",
            r"(local.set $edits (call $alloc (i32.const 48)))
              (call $edit (local.get $edits) (i32.const 0) (i32.const 1))
              (call $edit (i32.add (local.get $edits) (i32.const 24)) (i32.const 0) (i32.const 1))
              (call $ok (local.get $edits) (i32.const 2))".into(),
            "invalid_edit",
        ),
        (
            "category that is none",
            first_text(1, "(i32.store offset=16 (local.get $edits) (i32.const 64)) (i32.store offset=20 (local.get $edits) (i32.const 13))"),
            "invalid_edit",
        ),
        (
            "category as long as a message",
            first_text(1, "(i32.store offset=20 (local.get $edits) (i32.const 0))"),
            "invalid_edit",
        ),
        (
            "text action on an object",
            r"(local.set $edits (call $alloc (i32.const 24)))
              (call $edit (local.get $edits) (i32.const 0) (i32.const 4))
              (call $ok (local.get $edits) (i32.const 1))".into(),
            "invalid_edit",
        ),
        (
            "substring that is not there",
            first_text(
                2,
                r"(i32.store (i32.const 512) (i32.const 64)) (i32.store (i32.const 516) (i32.const 13))
                  (i32.store offset=8 (local.get $edits) (i32.const 512)) (i32.store offset=12 (local.get $edits) (i32.const 1))",
            ),
            "invalid_edit",
        ),
        (
            "log flood",
            last_text(
                "(loop $l
                   (call $log (i32.const 3) (i32.load offset=12 (local.get $at)) (i32.load offset=16 (local.get $at)))
                   (br $l))
                 (call $none)",
            ),
            "deadline",
        ),
    ]
}

/// A component of the world `redactor` with this body of `redact`.
pub fn component(body: &str) -> Vec<u8> {
    with_extra(body, "")
}

/// The same with something more in the module, as a start function.
pub fn with_extra(body: &str, extra: &str) -> Vec<u8> {
    let recurse = "(func $recurse (call $recurse) (call $recurse))";
    encode(&format!("(module {PRELUDE} {recurse} {extra} {REDACT} {body}))"), "redactor")
}

/// A component that imports WASI, and calls it where `calls`.
pub fn wasi(calls: bool) -> Vec<u8> {
    let call = if calls { "(drop (call $now))" } else { "" };
    let import = r#"(import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))"#;
    encode(&format!("(module {import} {PRELUDE} {REDACT} {call} {MASK_ALL}))"), "with-wasi")
}

fn encode(text: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut resolve = Resolve::default();
    let clock = "package wasi:clocks@0.2.0;\ninterface monotonic-clock { now: func() -> u64; }\n";
    resolve.push_str("clock.wit", clock).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/wit/redactor.wit");
    let package = resolve.push_str(path, &std::fs::read_to_string(path).unwrap()).unwrap();
    let extra = "package test:guests;\nworld with-wasi { import wasi:clocks/monotonic-clock@0.2.0; include docket:redaction/redactor@0.1.0; }\n";
    let extra = resolve.push_str("extra.wit", extra).unwrap();
    let package = if world == "redactor" { package } else { extra };
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}
