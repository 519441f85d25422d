"""What readers cost the data plane. usage: readers.py DOCKET_BINARY [ROUNDS [SECONDS]]

Starts a docket, records 60,000 decisions, and measures one agent's decisions in turn: idle, beside four clients that export and
stream without pause, beside four whose network has 100 Mbit/s for each, beside sixteen that list, and beside two processes that only
burn the processor, which is what the machine itself costs then. All of it shares this machine, so the clients run only when nobody
else would (SCHED_IDLE): their own work is not docket's. Rounds are interleaved; medians of the rounds are printed, with the ratio to
idle, and how many answers the readers had a second. Standard library, curl and chrt only.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

binary = os.path.realpath(sys.argv[1])
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 4.0
ENTRIES = int(os.environ.get("ENTRIES", "60000"))
POLICY = """package bench.readers
allow contains {"rule": "harmless"} if input.resource.id == "read_file"
deny contains {"rule": "no_delete"} if input.resource.id == "delete_file"
"""
BODY = json.dumps({
    "subject": {"type": "identity", "id": "bot", "properties": {"team": "finance"}},
    "action": {"name": "tools/call"},
    "resource": {"type": "tool", "id": "read_file", "properties": {"server": "filesystem"}},
    "context": {"arguments": {"path": "/srv/invoices/2026/17.pdf", "note": "lorem ipsum dolor sit amet " * 20}},
}).encode()


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    one = socket.create_connection((host, int(port)))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


REQUEST = (
    f"POST /access/v1/evaluation HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY


def decide(one: socket.socket) -> float:
    began = time.perf_counter()
    one.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += one.recv(65536)
    head, rest = answer.split(b"\r\n\r\n", 1)
    length = int(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")).split(b":")[1])
    while len(rest) < length:
        rest += one.recv(65536)
    assert head.startswith(b"HTTP/1.1 200"), answer
    return time.perf_counter() - began


def measure(address: str) -> tuple[float, float]:
    """p50 and p99 in milliseconds, at some 300 decisions a second: an agent waits for its tools between calls."""
    one, taken, end = connect(address), [], time.monotonic() + seconds
    while time.monotonic() < end:
        taken.append(decide(one) * 1e3)
        time.sleep(0.003)
    taken.sort()
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


def fill(address: str, count: int) -> None:
    def some(share: int) -> None:
        one = connect(address)
        for _ in range(share):
            decide(one)
    threads = [threading.Thread(target=some, args=(count // 16,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# In the same session, or the kernel would share the processors between sessions first (autogroup) and heed priorities only within each.
LAST = ["chrt", "--idle", "0"]


def readers(admin: str, token: str, what: str, log: str) -> list[subprocess.Popen]:
    def loop(path: str, pace: str = "") -> subprocess.Popen:
        curl = f'curl -sN {pace} -o /dev/null -w "%{{http_code}}\\n" -H "Authorization: Bearer {token}" "http://{admin}{path}"'
        script = f"while true; do {curl} >> {log} || sleep 0.1; done"
        return subprocess.Popen([*LAST, "bash", "-c", script], process_group=0)
    burn = [*LAST, sys.executable, "-c", "while True: pass"]
    four = (
        "/v1/audit/export?format=jsonl", "/v1/audit/export?format=csv",
        "/v1/audit/stream?after=-1", "/v1/audit/stream?after=-1",
    )
    match what:
        case "four export and stream":
            return [loop(path) for path in four]
        case "four, 100 Mbit/s each":
            return [loop(path, "--limit-rate 12M") for path in four]
        case "sixteen list":
            return [loop("/v1/audit?limit=1000&tool=e&rule=harmless") for _ in range(16)]
        case "two burn, without docket":
            return [subprocess.Popen(burn, process_group=0) for _ in range(2)]
    return []


def end(one: subprocess.Popen) -> None:
    # What runs only when nobody else would does not even end on a busy machine.
    os.sched_setscheduler(one.pid, os.SCHED_OTHER, os.sched_param(0))
    os.killpg(one.pid, 9)
    one.wait(30)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("FOLDER")) as folder:
        os.mkdir(f"{folder}/policies")
        with open(f"{folder}/policies/p.rego", "w") as file:
            file.write(POLICY)
        with open(f"{folder}/docket.toml", "w") as file:
            file.write('[data]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n[log]\nlevel = "error"\n')
        process = subprocess.Popen([binary, "serve"], cwd=folder, stdout=subprocess.PIPE)
        try:
            ready = json.loads(process.stdout.readline())
            data, admin = ready["data"], ready["admin"]
            with open(f"{folder}/admin.token") as file:
                admin_token = file.read().strip()
            body = json.dumps({"name": "reader", "role": "auditor"}).encode()
            headers = {"Authorization": f"Bearer {admin_token}", "Content-Type": "application/json"}
            request = urllib.request.Request(f"http://{admin}/v1/tokens", body, headers)
            token = json.load(urllib.request.urlopen(request))["token"]
            fill(data, ENTRIES)
            kinds = ["idle", "four export and stream", "four, 100 Mbit/s each", "sixteen list", "two burn, without docket"]
            found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            answers = dict.fromkeys(kinds, 0)
            for _ in range(rounds):
                for kind in kinds:
                    log = f"{folder}/answers"
                    open(log, "w").close()
                    started = readers(admin, token, kind, log)
                    time.sleep(1)
                    found[kind].append(measure(data))
                    for one in started:
                        end(one)
                    with open(log) as file:
                        answers[kind] += sum(line == "200\n" for line in file)
                    time.sleep(1)
            idle = statistics.median(p99 for _, p99 in found["idle"])
            print(f"{'beside':<28} {'p50 ms':>8} {'p99 ms':>8} {'p99/idle':>9} {'answers/s':>9}   p99 of each round")
            for kind in kinds:
                p50 = statistics.median(p50 for p50, _ in found[kind])
                p99 = statistics.median(p99 for _, p99 in found[kind])
                each = " ".join(f"{p99:.2f}" for _, p99 in found[kind])
                rate = answers[kind] / rounds / (seconds + 1)
                print(f"{kind:<28} {p50:>8.2f} {p99:>8.2f} {p99 / idle:>9.2f} {rate:>9.1f}   {each}")
        finally:
            process.terminate()
            process.wait()


main()
