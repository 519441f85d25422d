#!/usr/bin/env bash
# usage: tests/peers/run.sh PEERS_DIR DOCKET_BINARY
# Real MCP clients, servers and conformance suites through docket: the Python SDK in both eras, and no conformance
# scenario worse than without docket. OPA's evaluator beside docket: the same decisions by the same rules. Cerbos beside docket: audit
# logs of the same shape. Loopback only, bounded, and everything it starts is ended again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers=$(cd "$1" && pwd) docket=$(readlink -f "$2") work=$(mktemp -d)
python=$peers/py/bin/python
suite=$here/../../../shared/peers/mcp/conformance.sh
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

read -r everything served <<<"$(python3 - <<'P'
import socket
sockets = [socket.socket() for _ in range(2)]
for one in sockets: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
P
)"
PORT=$everything node "$peers/mcp/node_modules/@modelcontextprotocol/server-everything/dist/index.js" streamableHttp \
  >"$work/everything.log" 2>&1 & pids+=($!)
"$python" "$here/server.py" "$served" >"$work/python.log" 2>&1 & pids+=($!)
cat >"$work/docket.toml" <<T
[data]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[ledger]
path = "$work/docket.db"
[policy]
path = "$here/policies"
[servers.everything]
url = "http://127.0.0.1:$everything/mcp"
[servers.python]
url = "http://127.0.0.1:$served/mcp"
T
"$docket" serve --config "$work/docket.toml" >"$work/ready" 2>"$work/docket.log" & pids+=($!)
for port in "$everything" "$served"; do
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
done
for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
data=http://$(sed -n 's/.*"data":"\([^"]*\)".*/\1/p' "$work/ready")
admin=http://$(sed -n 's/.*"admin":"\([^"]*\)".*/\1/p' "$work/ready")

timeout 120 "$python" "$here/client.py" "$data" "$admin" "$(cat "$work/admin.token")"

load=$here/../../../shared/peers/load
if [ -d "$load" ]; then
  timeout 120 "$python" "$here/opa_differential.py" "$docket" "$load"
else
  echo "opa_differential: skipped, $load is not there"
fi

cerbos=$peers/cerbos/node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64
if [ -x "$cerbos" ]; then
  timeout 120 python3 "$here/cerbos_audit.py" "$cerbos" "$docket"
else
  echo "cerbos_audit: skipped, $cerbos is not there"
fi

bash "$suite" "$peers" direct "http://127.0.0.1:$everything/mcp" "$work/conformance" >/dev/null
bash "$suite" "$peers" docket "$data/mcp/everything" "$work/conformance" >/dev/null
python3 "$here/compare.py" "$work/conformance"
echo "peers: 7 passed, 0 failed"
