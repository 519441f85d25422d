"""usage: opa_differential.py DOCKET_BINARY LOAD_DIR [POLICIES]

Sends the 256 calls of LOAD_DIR to a docket that runs the load's policies, and gives the same input and the same files to
OPA's own evaluator: the effect and the names of the rules that made it must be equal, call by call. POLICIES replaces the
files docket runs, to see this test fail. Ends with 1 where anything differs."""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

try:
    from opa_bindings import OpaEngine, OpaUndefinedError
except ImportError:
    print("opa_differential: skipped, the OPA evaluator is not installed")
    sys.exit(0)

CALLS = 256
binary, load = sys.argv[1], pathlib.Path(sys.argv[2])
policies = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else load / "policies"


def by_opa(engine: OpaEngine, call: dict) -> tuple[str, list[str]]:
    """What OPA's values of the three effects come to, combined as docket documents it."""
    for effect in ("deny", "require_approval", "allow"):
        try:
            elements = engine.eval_document(f"bench.tools.{effect}", call)
        except OpaUndefinedError:
            elements = []
        if elements:
            return effect, sorted(element["rule"] for element in elements)
    return "deny", ["default_deny"]


def by_docket(address: str, call: dict) -> tuple[str, list[str]]:
    body = json.dumps(call).encode()
    request = urllib.request.Request(
        f"http://{address}/access/v1/evaluation", body, {"Content-Type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request, timeout=10))["context"]
    assert answer["evaluation_status"] == "complete", answer
    return answer["decision"], sorted(said["rule"] for said in answer["diagnostics"])


def main() -> int:
    engine = OpaEngine()
    for file in sorted((load / "policies").rglob("*.rego")):
        engine.add_policy(file.name, file.read_text())
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        subprocess.run([sys.executable, str(load / "gen.py"), folder], check=True)
        calls = [json.loads(line) for line in (work / "authzen.jsonl").read_text().splitlines()]
        assert len(calls) == CALLS, f"{load} has {len(calls)} calls, not {CALLS}"
        (work / "docket.toml").write_text(
            f'[data]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[ledger]\npath = "{work}/docket.db"\n[policy]\npath = "{policies.resolve()}"\n'
        )
        with open(work / "docket.log", "wb") as log:
            docket = subprocess.Popen(
                [binary, "serve", "--config", str(work / "docket.toml")], stdout=subprocess.PIPE, stderr=log
            )
            try:
                ready = docket.stdout.readline()
                assert ready, (work / "docket.log").read_text()
                address = json.loads(ready)["data"]
                different, effects = 0, set()
                for number, call in enumerate(calls):
                    expected, found = by_opa(engine, call), by_docket(address, call)
                    effects.add((expected[0], *expected[1]))
                    if expected != found:
                        different += 1
                        print(f"call {number}: OPA {expected}, docket {found}: {json.dumps(call)}")
            finally:
                docket.terminate()
                docket.wait(20)
    # Calls that all come out alike would compare nothing.
    assert {effect for effect, *_ in effects} >= {"allow", "deny"} and len(effects) > 4, effects
    print(f"opa_differential: calls={len(calls)} different={different}")
    return 1 if different else 0


sys.exit(main())
