#!/usr/bin/env bash
# usage: tests/peers/redactors.sh GUESTS_DIR DOCKET_BINARY
# The example hooks in GUESTS_DIR, as `examples/redactors/build.sh` makes them, redact the same 200 records to the same bytes in
# docket, whatever their settings, and leave nothing of what was planted. Prints what each costs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guests=$(cd "$1" && pwd) docket=$(readlink -f "$2") work=$(mktemp -d)
examples=$here/../../examples/redactors
trap 'rm -rf "$work"' EXIT

python3 "$examples/records.py" | cmp - "$examples/records.jsonl"
for settings in '{}' '{"cards": "keep-last-4", "emails": "hash"}' '{"cards": "off"}' '{"cards": "hash", "emails": "off"}'; do
  for language in rust c javascript python; do
    # Time for Python on a busy machine; what is compared does not depend on it. Exit code 1 is a failed call.
    timeout 300 "$docket" hook check "$guests/$language.wasm" --records "$examples/records.jsonl" --settings "$settings" \
      --deadline-ms 10000 --calls 200 --json >"$work/report.json"
    python3 - "$language" "$settings" "$work/report.json" "$examples/records.jsonl" >"$work/$language.jsonl" <<'P'
import json
import sys

language, settings, report, records = sys.argv[1:]
report = json.load(open(report, encoding="utf-8"))
edits = 0
for before, after in zip(open(records, encoding="utf-8"), report["records"], strict=True):
    # Each entry says which component ran: the one thing in which they differ.
    del after["record"]["metadata"]["hooks"]
    edits += sum(edit["by"] == "hook:check" for edit in after["edits"])
    line = json.dumps(after, ensure_ascii=False)
    print(line)
    planted = json.loads(before)["context"]["arguments"]
    for name in ("pan", "number", "to") if settings == "{}" else ():
        # Two separators in a row are not how a card is spelled.
        value = str(planted.get(name, "- "))
        if "- " not in value and value in line:
            sys.exit(f"redactors: {language} left `{value}`")
if edits < 200:
    sys.exit(f"redactors: {language} made only {edits} edits")
component, timing = report["component"], report["timing"]
print(
    f"{language}: {edits} edits; {component['bytes']} bytes, compiled in {component['compile_ms']} ms,",
    f"p50 {timing['p50_us']:.0f} µs, p99 {timing['p99_us']:.0f} µs",
    file=sys.stderr,
)
P
    cmp "$work/rust.jsonl" "$work/$language.jsonl"
  done
  echo "redactors: the same with $settings"
done
