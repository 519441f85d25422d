#!/usr/bin/env python3
"""Writes the 200 records of `records.jsonl`: what four hooks must redact to the same bytes.

    records.py > records.jsonl

Each line is the free-form part of one ledger entry: a tool call as an agent makes it, with cards and addresses in many
spellings, and with what only looks like them. The same seed gives the same bytes; no card or address belongs to anybody.
"""

import json
import random
import uuid

RANDOM = random.Random(20260101)
RECORDS = 200

BRANDS = [("4", 16), ("4", 13), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("36", 14), ("6011", 16), ("62", 19)]
NAMES = ["alice", "bob.smith", "carol_1", "d", "erin+billing", "frank%dept", "x-9", "O.Hara", "grace.m.h"]
HOSTS = ["example.com", "mail.example.co.uk", "example.xn--p1ai", "sub-domain.example.org", "EXAMPLE.NET", "a.io"]
TOOLS = ["send_mail", "create_invoice", "read_file", "run_query", "charge", "search_tickets", "post_message"]
PROSE = [
    "Please refund the customer.",
    "Rechnung über 1.299,00 € geprüft.",
    "支払いを確認しました。",
    "Встреча в 10:30.",
    "Done 🎉 — see notes 👩‍💻.",
    "No card was stored.",
    "The build of 2024-05-06 took 12 s.",
    "",
]


def digits(count):
    return "".join(RANDOM.choice("0123456789") for _ in range(count))


def luhn(body):
    """The digit that makes a number of these digits pass the check."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body))]
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)


def card():
    prefix, length = RANDOM.choice(BRANDS)
    body = prefix + digits(length - len(prefix) - 1)
    return body + luhn(body)


def wrong(number):
    """The number with another last digit, which fails the check."""
    return number[:-1] + str((int(number[-1]) + RANDOM.randint(1, 9)) % 10)


def spelled(number):
    """One of the ways people write it."""
    by_four = [number[at : at + 4] for at in range(0, len(number), 4)]
    amex = [number[:4], number[4:10], number[10:]]
    groups = amex if len(number) == 15 else by_four
    return RANDOM.choice([number, " ".join(groups), "-".join(groups), " ".join(by_four), "- ".join(groups)])


def address():
    return f"{RANDOM.choice(NAMES)}@{RANDOM.choice(HOSTS)}"


def look_alike():
    """What is neither a card nor an address."""
    return RANDOM.choice(
        [
            lambda: wrong(card()),
            lambda: spelled(wrong(card())),
            lambda: digits(8) + card() + digits(8),
            lambda: "ord_" + card(),
            lambda: card() + "b",
            lambda: "0" + digits(15),
            lambda: str(1_700_000_000_000 + RANDOM.randrange(10**10)),
            lambda: "3." + digits(15),
            lambda: str(uuid.UUID(int=RANDOM.getrandbits(128), version=4)),
            lambda: f"{RANDOM.getrandbits(160):040x}",
            lambda: "left-pad@1.3.0",
            lambda: "@types/node",
            lambda: "image@sha256:" + f"{RANDOM.getrandbits(64):016x}",
            lambda: "root@localhost",
            lambda: "a @ b.com, c@ d.org, @e.net",
            lambda: "+49 30 " + digits(7),
            lambda: "2024-05-06T10:30:00.123Z",
            lambda: "٤١١١١١١١١١١١١١١١",
            lambda: "４１１１１１１１１１１１１１１１",
        ]
    )()


def fragment():
    """Something for the middle of a sentence."""
    return RANDOM.choice(
        [
            lambda: spelled(card()),
            lambda: f"card {spelled(card())}, exp 12/27, cvc {digits(3)}",
            lambda: f"{spelled(card())} {digits(3)}",
            lambda: f"{digits(2)} {spelled(card())}",
            lambda: f"({card()})",
            lambda: f"é{card()}é",
            lambda: f"😀{spelled(card())}😀",
            lambda: f"{card()}.",
            lambda: address(),
            lambda: f"<{address()}>",
            lambda: f"mailto:{address()}?subject=hi",
            lambda: f"🦊{address()}🦊",
            lambda: f"{address()}, {address()}; {address()}.",
            lambda: f"{card()}@example.com",
            lambda: f"{address()}-{card()}",
            lambda: f"{address()}@example.org",
            lambda: f'{{"pan": "{card()}", "to": "{address()}"}}',
            look_alike,
            look_alike,
            look_alike,
        ]
    )()


def text():
    count = RANDOM.choice([0, 1, 1, 2, 3])
    words = [RANDOM.choice(PROSE)]
    for _ in range(count):
        words += [fragment(), RANDOM.choice(PROSE)]
    return RANDOM.choice([" ", " ", "\n", "\t"]).join(words)


def number():
    return RANDOM.choice(
        [
            lambda: int(card()[:18]),
            lambda: int(card()),
            lambda: -int(card()),
            lambda: int(wrong(card())),
            lambda: 1_700_000_000_000 + RANDOM.randrange(10**10),
            lambda: RANDOM.randrange(1000),
            lambda: RANDOM.randrange(10**6) / 100,
            lambda: 0,
            lambda: 9_007_199_254_740_993,
        ]
    )()


def value(depth):
    kinds = [text, text, text, number, fragment, look_alike, lambda: None, lambda: RANDOM.random() < 0.5, lambda: ""]
    if depth > 0:
        kinds += [
            lambda: {f"k{at}": value(depth - 1) for at in range(RANDOM.randint(0, 3))},
            lambda: [value(depth - 1) for _ in range(RANDOM.randint(0, 3))],
            lambda: {"a/b~c": value(depth - 1), "": value(depth - 1), "schlüssel 🔑": value(depth - 1)},
        ]
    return RANDOM.choice(kinds)()


def deep():
    """A value far down."""
    inner = {"pan": spelled(card()), "to": address(), "n": int(card())}
    for at in range(40):
        inner = [inner] if at % 3 == 0 else {"in": inner}
    return inner


def edges():
    """Both sides of every line of the definition."""
    visa, short, long = "4111111111111111", "422222222222", "62" + "0" * 15
    cards = [body + luhn(body) for body in (short[:-1], short, short + "2", long, long + "0", long + "00")]
    cards += [body + luhn(body) for body in ("1" + "0" * 11, "1" + "0" * 12, "2" + "0" * 11, "0" * 15, "0" + "4" * 14)]
    for mark in ["a", "Z", "_", ".", "3.", ".3", "-", " ", "é", "😀", "@", "/", "\u00a0", "\0"]:
        cards += [mark + visa, visa + mark]
    for gap in [" ", "-", "  ", " -", "--", ".", "_", "\t", "\n", "\u00a0", "–"]:
        cards += [gap.join([visa[:4], visa[4:]]), gap.join([visa, "1"]), gap.join(["1", visa]), gap.join([visa, visa])]
    cards += ["4111 1111 1111 1111 3", "4111 1111 1111 1111 4", "12 5555-5555-5555-4444", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"]
    domains = ["b", "b.c", "b.cc", "b.1c", "b.c1", "b.-c", "b.c-", "-.cc", ".b.cc", "b..cc", "b.cc.", "b.cc.1", "b.cc-1", "b.cc_"]
    mails = [f"a@{domain}" for domain in [*domains, "b.cc.dd", "b.cc.d", "é.cc", "b.éé", "b.cc\u00e9", "b.cc@d.ee", "@b.cc"]]
    mails += [f"{local}@b.cc" for local in ["", "é", ".", "_", "%", "+", "-", "a.b", "a'b", "a=b", "a/b", "a b", "zZ9", visa, "x." + visa]]
    mails += [f"a@b.cc{visa}", f"a@b.cc-{visa}", f"a@b.cc-{visa} 1", f"a@b.cc {visa}", f"{visa}@b.cc {visa}", f"{visa}+{visa}@b.cc"]
    return {"cards": cards, "mails": mails, "most": "a@b.cc " * 100, "more": "a@b.cc " * 101}


def arguments(at):
    if at == 3:
        return edges()
    if at == 60:
        return {"body": "; ".join(f"{address()} {card()}" for _ in range(60))}
    if at % 50 == 7:
        return {"tree": deep()}
    whole = {"pan": spelled(card()), "number": int(card()), "to": address()}
    picked = {name: whole[name] for name in whole if RANDOM.random() < 0.3}
    picked |= {f"arg{at}": value(3) for at in range(RANDOM.randint(0, 4))}
    return picked


def record(at):
    tool = RANDOM.choice(TOOLS)
    made = {
        "subject": {"type": "agent", "id": f"agent-{at % 7}", "properties": {"team": "billing"}},
        "action": {"name": "tools/call"},
        "resource": {"type": "tool", "id": tool, "properties": {"server": "shop"}},
        "context": {"arguments": arguments(at)},
        "diagnostics": [],
        "metadata": {},
    }
    if RANDOM.random() < 0.3:
        message = f"`{tool}` may not see {fragment()}"
        made["diagnostics"].append({"policy_id": "cards", "effect": "deny", "rule": "deny", "message": message})
    if RANDOM.random() < 0.2:
        made["metadata"]["result"] = {"content": [{"type": "text", "text": text()}], "isError": False}
    return made


if __name__ == "__main__":
    for place in range(RECORDS):
        print(json.dumps(record(place), ensure_ascii=False, separators=(",", ":")))
