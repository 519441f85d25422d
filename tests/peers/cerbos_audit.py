"""usage: cerbos_audit.py CERBOS_BINARY DOCKET_BINARY

The same requests to a live Cerbos and to docket, and then `GET /admin/auditlog/list/…` of both: whoever reads Cerbos' audit log
reads docket's. Every member that docket writes is one that Cerbos writes, with a value of the same JSON type; every member that
Cerbos writes is there too, but for those listed in CERBOS_ONLY; both answer the same parameters with the same status, but for
DIFFERENT. Loopback only, bounded, and both are ended again.
"""
import base64
import datetime
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CERBOS, DOCKET = sys.argv[1:3]

# What docket has nothing to say of: it derives no roles, takes no address from a header that anybody could write, has no
# policy that speaks beside its decision, and names its policies by digest, not by where they came from.
CERBOS_ONLY = {"forwardedFor", "policySource", "effectiveDerivedRoles", "outputs[].outputs"}
# Members whose keys are data: names of actions and policies, and what callers send.
MAPS = {"attr", "actions{}", "effectivePolicies", "attributes"}

CERBOS_POLICY = """apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: tool
  version: default
  rules:
    - {actions: [call], effect: EFFECT_ALLOW, roles: [agent], condition: {match: {expr: R.attr.verb == "read"}}}
    - {actions: [call], effect: EFFECT_DENY, roles: ["*"], condition: {match: {expr: R.attr.verb == "delete"}}}
"""
DOCKET_POLICY = """# METADATA
# custom:
#   id: tool
package tool

allow if input.resource.properties.verb == "read"
deny contains "no_delete" if input.resource.properties.verb == "delete"
"""
# Verb and effect; nothing is about the last one.
CALLS = [("read", True), ("delete", False), ("read", True), ("write", False)]

PAST, SOON = "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
# Path and query, and the status of both.
SAME = [
    ("KIND_DECISION?tail=0", 400), ("KIND_DECISION?tail=1001", 400), ("KIND_DECISION?tail=many", 400), ("KIND_DECISION", 400),
    ("KIND_DECISION?tail=1&since=1h", 400), ("KIND_DECISION?lookup=abc", 400), ("KIND_DECISION?since=never", 400),
    (f"KIND_DECISION?between.start=soon&between.end={SOON}", 400), (f"KIND_DECISION?between.end={SOON}", 400),
    (f"KIND_DECISION?between.start={PAST}&between.end={SOON}&tail=1", 400), ("KIND_DECISION?limit=1", 400),
    ("KIND_DECISION?since=3600s", 200), ("KIND_DECISION?since=1h30m", 200), ("KIND_ACCESS?tail=1000", 200),
]
# Path and query, Cerbos' status, docket's, and why.
DIFFERENT = [
    (f"KIND_DECISION?lookup={UNKNOWN}", 200, 404, "an entry that is not there is not found, instead of an empty answer"),
    (f"KIND_DECISION?between.start={PAST}", 400, 200, "without an end it is the present"),
    ("KIND_NOTHING?tail=1", 400, 404, "there is nothing at that path"),
]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    return [one.getsockname()[1] for one in sockets]


def send(url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def shifted(timestamp, milliseconds):
    moment = datetime.datetime.fromisoformat(timestamp[:23]) + datetime.timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds") + "Z"


def wait_for(what, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.1)
    return found


class Peer:
    """One of the two: where its audit log is, and who may read it."""

    def __init__(self, name, base, password):
        self.name, self.base = name, base
        self.basic = "Basic " + base64.b64encode(f"cerbos:{password}".encode()).decode()

    def ask(self, path):
        return send(f"{self.base}/admin/auditlog/list/{path}", authorization=self.basic)

    def entries(self, path, member):
        """One entry a line, each the only member of a `result`."""
        status, text = self.ask(path)
        assert status == 200, (self.name, path, status, text)
        assert text == "" or text.endswith("\n"), (self.name, path)
        results = [json.loads(line) for line in text.splitlines()]
        assert all(list(one) == ["result"] and list(one["result"]) == [member] for one in results), (self.name, text)
        return [one["result"][member] for one in results]


def members(value, path=""):
    """Every member of an entry, by its path without indexes, and the JSON type of its value."""
    found = {}
    if isinstance(value, dict):
        last = path.rsplit(".", 1)[-1]
        is_map = last in MAPS or (last == "actions" and path.endswith("outputs[].actions"))
        for name, inner in value.items():
            # What a caller sends is not compared, only that it is there.
            if last == "attr":
                continue
            at = f"{path}.*" if is_map else f"{path}.{name}"
            found[at] = type(inner).__name__
            found.update(members(inner, at))
    elif isinstance(value, list):
        for inner in value:
            found[path + "[]"] = type(inner).__name__
            found.update(members(inner, path + "[]"))
    return found


def compare(what, cerbos, docket):
    known, written = {}, {}
    for one in cerbos:
        known.update(members(one))
    for one in docket:
        written.update(members(one))
    # What a policy is said to be made of is each one's own.
    own = lambda path: ".attributes." in path
    strange = {path for path in written if path not in known and not own(path)}
    assert not strange, f"{what}: docket writes {sorted(strange)}, and Cerbos does not"
    other = {path for path in written if path in known and written[path] != known[path]}
    assert not other, f"{what}: of another type are {sorted(other)}"
    allowed = lambda path: own(path) or any(path.endswith(name) or f"{name}." in path or f"{name}[" in path for name in CERBOS_ONLY)
    missing = {path for path in known if path not in written and not allowed(path)}
    assert not missing, f"{what}: Cerbos writes {sorted(missing)}, and docket does not"
    empty = [path for path, kind in written.items() if kind == "NoneType"]
    assert not empty, f"{what}: docket writes null for {empty}"
    print(f"{what}: {len(written)} members of docket's entries are Cerbos', of the same types")


def run(cerbos, docket, data):
    for number, (verb, effect) in enumerate(CALLS):
        attributes, arguments = {"verb": verb}, {"path": "/x"}
        status, answer = send(f"{cerbos.base}/api/check/resources", {
            "requestId": f"call-{number}", "principal": {"id": "bot", "roles": ["agent"], "attr": {"team": "a"}},
            "resources": [{"actions": ["call"], "resource": {"kind": "tool", "id": "fs", "attr": {**attributes, "arguments": arguments}}}],
        })
        assert status == 200, answer
        assert json.loads(answer)["results"][0]["actions"]["call"] == ("EFFECT_ALLOW" if effect else "EFFECT_DENY"), answer
        status, answer = send(f"{data}/access/v1/evaluation", {
            "subject": {"type": "identity", "id": "bot", "properties": {"roles": ["agent"], "team": "a"}}, "action": {"name": "call"},
            "resource": {"type": "tool", "id": "fs", "properties": attributes}, "context": {"arguments": arguments},
        }, **{"x-request-id": f"call-{number}"})
        assert status == 200 and json.loads(answer)["decision"] is effect, answer
    count = len(CALLS)
    for kind, member in (("KIND_DECISION", "decisionLogEntry"), ("KIND_ACCESS", "accessLogEntry")):
        # Cerbos writes in batches, and each read of docket's ledger is a look of its own.
        wait_for(lambda: all(len(peer.entries(f"{kind}?tail=1000", member)) >= count for peer in (cerbos, docket)))
        tails = [peer.entries(f"{kind}?tail={count}", member) for peer in (cerbos, docket)]
        assert [len(tail) for tail in tails] == [count, count]
        compare(kind, *tails)
        for peer, tail in zip((cerbos, docket), tails):
            times = [entry["timestamp"] for entry in tail]
            assert times == sorted(times, reverse=True), (peer.name, "the newest comes first")
            entry = tail[1]
            assert peer.entries(f"{kind}?lookup={entry['callId']}", member) == [entry], (peer.name, kind)
            assert peer.entries(f"{kind}?between.start={PAST}&between.end={SOON}", member) == [], (peer.name, kind)
            # Cerbos leaves out what was in the millisecond of the end, which its documentation includes, as docket does.
            begin, end = shifted(tail[2]["timestamp"], -2), shifted(tail[1]["timestamp"], 2)
            between = peer.entries(f"{kind}?between.start={begin}&between.end={end}", member)
            assert {one["callId"] for one in tail[1:3]} <= {one["callId"] for one in between}, (peer.name, kind, between)
            assert len(peer.entries(f"{kind}?since=1h", member)) >= count, (peer.name, kind)
    decisions = [peer.entries(f"KIND_DECISION?tail={count}", "decisionLogEntry") for peer in (cerbos, docket)]
    for one, other in zip(*decisions):
        [asked, its], [answered, its_answer] = ([entry["checkResources"][part][0] for entry in (one, other)] for part in ("inputs", "outputs"))
        for part in ("requestId", "resource", "actions"):
            assert asked[part] == its[part], (part, asked, its)
        assert asked["principal"]["id"] == its["principal"]["id"] and asked["principal"]["roles"] == its["principal"]["roles"]
        effect, its_effect = (answer["actions"]["call"] for answer in (answered, its_answer))
        assert effect["effect"] == its_effect["effect"], (effect, its_effect)
        # A policy that is asked and says nothing is named by Cerbos; docket denies by default without any.
        assert its_effect["policy"] == ("tool" if asked["requestId"] != f"call-{count - 1}" else "NO_MATCH"), its_effect
    for path, status in SAME:
        answers = [peer.ask(path)[0] for peer in (cerbos, docket)]
        assert answers == [status, status], (path, answers)
    for path, its, ours, why in DIFFERENT:
        answers = [peer.ask(path)[0] for peer in (cerbos, docket)]
        assert answers == [its, ours], (path, answers, why)
    for peer in (cerbos, docket):
        assert send(f"{peer.base}/admin/auditlog/list/KIND_DECISION?tail=1")[0] == 401, peer.name
    print(f"cerbos_audit: {len(SAME)} requests with the same status, {len(DIFFERENT)} with another as documented")


def main():
    with tempfile.TemporaryDirectory() as folder:
        work, started = pathlib.Path(folder), []
        http, grpc = free_ports(2)
        for name, file, text in (("cerbos", "tool.yaml", CERBOS_POLICY), ("docket", "tool.rego", DOCKET_POLICY)):
            (work / name).mkdir()
            (work / name / file).write_text(text)
        (work / "cerbos.yaml").write_text(json.dumps({
            "server": {"httpListenAddr": f"127.0.0.1:{http}", "grpcListenAddr": f"127.0.0.1:{grpc}", "adminAPI": {"enabled": True}},
            "telemetry": {"disabled": True},
            "storage": {"driver": "disk", "disk": {"directory": str(work / "cerbos"), "watchForChanges": False}},
            "audit": {"enabled": True, "accessLogsEnabled": True, "decisionLogsEnabled": True, "backend": "local", "local": {
                "storagePath": str(work / "audit"), "retentionPeriod": "24h",
                "advanced": {"bufferSize": 16, "maxBatchSize": 16, "flushInterval": "1s"},
            }},
        }))
        (work / "docket.toml").write_text(
            'data.listen = "127.0.0.1:0"\nadmin.listen = "127.0.0.1:0"\n'
            f'ledger.path = "{work}/docket.db"\npolicy.path = "{work}/docket"\n'
        )
        try:
            cerbos = [CERBOS, "server", f"--config={work}/cerbos.yaml", "--debug-listen-addr=", "--log-level=error"]
            started.append(subprocess.Popen(cerbos, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            serve = [DOCKET, "serve", "--config", f"{work}/docket.toml"]
            started.append(subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
            ready = json.loads(started[1].stdout.readline())
            token = (work / "admin.token").read_text().strip()

            def is_up():
                try:
                    return send(f"http://127.0.0.1:{http}/_cerbos/health")[0] == 200
                except OSError:
                    return False

            wait_for(is_up)
            # The password is the one Cerbos has where none is configured.
            run(Peer("Cerbos", f"http://127.0.0.1:{http}", "cerbosAdmin"), Peer("docket", f"http://{ready['admin']}", token), f"http://{ready['data']}")
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait(10)


main()
