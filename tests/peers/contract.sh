#!/usr/bin/env bash
# usage: [EXAMPLES=25] tests/peers/contract.sh SCHEMATHESIS DOCKET_BINARY
# Schemathesis puts the contract of both planes to a live docket: no server error, no status, header or media type that is not in
# the document, no body that is not as its schema says, and nothing accepted that the document forbids. Schemas are made strict
# for that: a member that is not documented is a failure. Loopback only, bounded, and what it starts is ended again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
schemathesis=$1 docket=$(readlink -f "$2") work=$(mktemp -d) pid= server=
finish() {
  for one in $pid $server; do kill "$one" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
# An MCP server that has an answer for everything.
python3 - >"$work/port" <<'P' &
import http.server, sys
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(200, b'{"jsonrpc":"2.0","id":1,"result":{}}')
    def do_GET(self): self.answer(405, b"{}")
    def do_DELETE(self): self.answer(405, b"{}")
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if status == 405: self.send_header("allow", "POST")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
print(server.server_port, flush=True)
server.serve_forever()
P
server=$!
for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.1; done
cat >"$work/docket.toml" <<T
data.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
ledger.path = "$work/docket.db"
policy.path = "$here/policies"
servers.filesystem.url = "http://127.0.0.1:$(cat "$work/port")/mcp"
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
# A stream has no end; `tests/it/audit.rs` reads it.
timeout 900 "$schemathesis" run "$admin/v1/openapi.json" "${common[@]}" --exclude-path /v1/audit/stream -H "Authorization: Bearer $DOCKET_TOKEN"
timeout 300 "$schemathesis" run "$data/v1/openapi.json" "${common[@]}"
kill "$pid"; wait "$pid" || true; pid=
"$docket" verify --ledger "$work/docket.db"
echo "contract: passed"
