#!/usr/bin/env bash
# usage: [EXAMPLES=25] tests/peers/contract.sh SCHEMATHESIS DOCKET_BINARY
# Schemathesis puts the contract of both planes to a live docket: no server error, no status, header or media type that is not in
# the document, no body that is not as its schema says, and nothing accepted that the document forbids. Schemas are made strict
# for that: a member that is not documented is a failure. Loopback only, bounded, and what it starts is ended again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
schemathesis=$1 docket=$(readlink -f "$2") work=$(mktemp -d) pid=
finish() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
cat >"$work/docket.toml" <<T
data.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
ledger.path = "$work/docket.db"
policy.path = "$here/policies"
T
"$docket" serve --config "$work/docket.toml" >"$work/ready" 2>"$work/docket.log" & pid=$!
for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
data=http://$(jq -r .data "$work/ready") admin=http://$(jq -r .admin "$work/ready")

# Something to look at: decisions of each effect, and a tree with a full tile.
for number in $(seq 300); do
  tool=$([ $((number % 3)) -eq 0 ] && echo delete_file || echo echo)
  printf 'header = "x-request-id: r-%s"\nurl = "%s/access/v1/evaluation"\nheader = "content-type: application/json"\noutput = "/dev/null"\ndata = "%s"\nnext\n' \
    "$number" "$data" "{\\\"subject\\\":{\\\"type\\\":\\\"identity\\\",\\\"id\\\":\\\"billing-bot\\\"},\\\"action\\\":{\\\"name\\\":\\\"tools/call\\\"},\\\"resource\\\":{\\\"type\\\":\\\"tool\\\",\\\"id\\\":\\\"$tool\\\"},\\\"context\\\":{}}"
done | sed '$d' >"$work/calls"
curl -fsS --config "$work/calls"

export SCHEMATHESIS_HOOKS=contract_hooks PYTHONPATH=$here DOCKET_TOKEN=$(cat "$work/admin.token")
common=(--continue-on-failure --no-color --seed 20261120
  --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-25}" --request-timeout 30 --suppress-health-check all
  --exclude-checks positive_data_acceptance)
cd "$work"
# A stream has no end; `tests/it/audit.rs` reads it. What is behind `/mcp` answers for itself.
timeout 900 "$schemathesis" run "$admin/v1/openapi.json" "${common[@]}" --exclude-path /v1/audit/stream -H "Authorization: Bearer $DOCKET_TOKEN"
timeout 300 "$schemathesis" run "$data/v1/openapi.json" "${common[@]}" --exclude-path '/mcp/{server}'
kill "$pid"; wait "$pid" || true; pid=
"$docket" verify --ledger "$work/docket.db"
echo "contract: passed"
