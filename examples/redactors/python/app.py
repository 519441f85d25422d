"""A redaction hook for docket: takes payment cards and e-mail addresses out of what is recorded.

What counts as a card or an address is defined in docket's `examples/redactors/README.md`, beside the same hook in Rust, C and
JavaScript. To build it, once `pip install -r requirements.txt`, then

    componentize-py -d wit -w redactor componentize --stub-wasi app -o redactor.wasm
"""

import json
import re

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import (
    Action_Hash,
    Action_KeepLast,
    Action_Mask,
    Action_MaskText,
    Context,
    Edit,
    Field,
    Value_Number,
    Value_Text,
)

# What becomes of a match. Settings hold one of these for each kind: {"cards": "keep-last-4", "emails": "hash"}.
RULES = {"cards": ["mask", "hash", "keep-last-4", "off"], "emails": ["mask", "hash", "off"]}

# What edits say a match was.
CATEGORIES = {"cards": "payment-card", "emails": "email"}

# A text with more matches than this is masked as a whole: docket looks for each part in all of the text.
MAX_PARTS = 100

DIGITS = frozenset("0123456789")
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
# A digit beside one of these belongs to a name, not to a number.
WORD = LETTERS | {"_"}
LABEL = LETTERS | DIGITS | {"-"}
LOCAL = LABEL | frozenset("._%+")


class Hook(exports.Hook):
    """The interface `hook` of `wit/redactor.wit`."""

    def redact(self, context: Context, fields: list[Field]) -> list[Edit]:
        """At most one edit for each field, in the order of the fields."""
        settings = parse(context.settings)
        edits = []
        for index, field in enumerate(fields):
            if not isinstance(field.value, (Value_Text, Value_Number)):
                continue
            text = field.value.value
            found = scan(text, settings)
            if not found:
                continue
            kind, start, end = found[0]
            is_number = isinstance(field.value, Value_Number)
            is_whole = is_number or (start, end) == (0, len(text))
            if is_whole and settings[kind] == "hash":
                action = Action_Hash()
            elif is_whole and not is_number and settings[kind] == "keep-last-4":
                action = Action_KeepLast(4)
            elif is_whole or len(found) > MAX_PARTS:
                action = Action_Mask()
            else:
                action = Action_MaskText([text[start:end] for _, start, end in found])
            edits.append(Edit(index, action, CATEGORIES[kind]))
        return edits


def scan(text: str, settings: dict[str, str]) -> list[tuple[str, int, int]]:
    """Every match from left to right, as kind, start and end.

    Matches that overlap become one, of the kind of the first.
    """
    found = []
    for piece in re.finditer("[0-9]+|@", text):
        is_card = piece[0] != "@"
        hit = None
        if is_card and settings["cards"] != "off":
            hit = card(text, piece.start())
        if not is_card and settings["emails"] != "off":
            hit = email(text, piece.start())
        if not hit:
            continue
        kind, start, end = hit
        while found and found[-1][2] > start:
            kind, first, last = found.pop()
            start, end = min(first, start), max(last, end)
        found.append((kind, start, end))
    return found


def card(text: str, start: int) -> tuple[str, int, int] | None:
    """The longest card that starts at this place, the first of a group of digits."""
    if at(text, start - 1) in WORD or (at(text, start - 1) == "." and at(text, start - 2) in DIGITS):
        return None
    # Luhn's sum for an even and for an odd number of digits: every other digit counts double, the last one never.
    even = odd = count = 0
    end, longest = start, None
    while True:
        while at(text, end) in DIGITS:
            digit = int(text[end])
            twice = 2 * digit if digit < 5 else 2 * digit - 9
            even += twice if count % 2 == 0 else digit
            odd += digit if count % 2 == 0 else twice
            count += 1
            end += 1
            if count > 19:
                return longest
        is_cut = at(text, end) in WORD or (at(text, end) == "." and at(text, end + 1) in DIGITS)
        # No card begins with 0, and 13 digits that begin with 1 are a time in milliseconds.
        is_other = text[start] == "0" or (count == 13 and text[start] == "1")
        if count >= 13 and (even if count % 2 == 0 else odd) % 10 == 0 and not is_cut and not is_other:
            longest = ("cards", start, end)
        if at(text, end) not in (" ", "-") or at(text, end + 1) not in DIGITS:
            return longest
        end += 1


def email(text: str, sign: int) -> tuple[str, int, int] | None:
    """The address around the `@` at this place."""
    start = sign
    while at(text, start - 1) in LOCAL:
        start -= 1
    if start == sign:
        return None
    found = None
    label, labels = sign + 1, 1
    while True:
        end = label
        while at(text, end) in LABEL:
            end += 1
        if labels >= 2 and end - label >= 2 and text[label] in LETTERS:
            found = ("emails", start, end)
        if end == label or at(text, end) != ".":
            return found
        label, labels = end + 1, labels + 1


def at(text: str, place: int) -> str:
    """The character there, and nothing beyond either end."""
    return text[place] if 0 <= place < len(text) else ""


def parse(text: str) -> dict[str, str]:
    """Settings with their defaults, or an error that says what would be right."""
    settings = {"cards": "mask", "emails": "mask"}
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Err("settings must be a JSON object")
    for name, rule in given.items():
        if name not in RULES:
            raise Err(f"unknown setting `{name}`: there are `cards` and `emails`")
        if rule not in RULES[name]:
            *others, last = (f"`{rule}`" for rule in RULES[name])
            raise Err(f"`{name}` must be {', '.join(others)} or {last}")
        settings[name] = rule
    return settings
