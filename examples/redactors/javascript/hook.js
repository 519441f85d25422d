// A redaction hook for docket: takes payment cards and e-mail addresses out of what is recorded.
//
// What counts as a card or an address is defined in docket's `examples/redactors/README.md`, beside the same hook in Rust, C
// and Python. To build it, once `npm install`, then `npm run build`.

/** What becomes of a match. Settings hold one of these for each kind: `{"cards": "keep-last-4", "emails": "hash"}`. */
const RULES = { cards: ["mask", "hash", "keep-last-4", "off"], emails: ["mask", "hash", "off"] };

/** A text with more matches than this is masked as a whole: docket looks for each part in all of the text. */
const MAX_PARTS = 100;

/** What edits say a match was. */
const CATEGORIES = { cards: "payment-card", emails: "email" };

/** The interface `hook` of `wit/redactor.wit`. What it throws is the hook's error. */
export const hook = {
  /** At most one edit for each field, in the order of the fields. */
  redact(context, fields) {
    const settings = parse(context.settings);
    return fields.flatMap(({ value }, field) => {
      if (value.tag !== "text" && value.tag !== "number") return [];
      const text = value.val;
      const found = scan(text, settings);
      if (found.length === 0) return [];
      const { kind, start, end } = found[0];
      const isNumber = value.tag === "number";
      const isWhole = isNumber || (start === 0 && end === text.length);
      let action = { tag: "mask-text", val: found.map(({ start, end }) => text.slice(start, end)) };
      if (isWhole || found.length > MAX_PARTS) action = { tag: "mask" };
      if (isWhole && settings[kind] === "hash") action = { tag: "hash" };
      if (isWhole && !isNumber && settings[kind] === "keep-last-4") action = { tag: "keep-last", val: 4 };
      return [{ field, action, category: CATEGORIES[kind] }];
    });
  },
};

/** Every match from left to right. Matches that overlap become one, of the kind of the first. */
function scan(text, settings) {
  const found = [];
  for (const { 0: piece, index: at } of text.matchAll(/[0-9]+|@/g)) {
    const isCard = piece !== "@";
    let hit = null;
    if (isCard && settings.cards !== "off") hit = card(text, at);
    if (!isCard && settings.emails !== "off") hit = email(text, at);
    if (!hit) continue;
    while (found.length > 0 && found.at(-1).end > hit.start) {
      const { kind, start, end } = found.pop();
      hit = { kind, start: Math.min(start, hit.start), end: Math.max(end, hit.end) };
    }
    found.push(hit);
  }
  return found;
}

/** The longest card that starts at this place, the first of a group of digits. */
function card(text, start) {
  if (isWord(text, start - 1) || (text[start - 1] === "." && isDigit(text, start - 2))) return null;
  // Luhn's sum for an even and for an odd number of digits: every other digit counts double, the last one never.
  let [even, odd, count, longest] = [0, 0, 0, null];
  for (let at = start; ; at += 1) {
    for (; isDigit(text, at); at += 1) {
      const digit = Number(text[at]);
      const twice = digit < 5 ? 2 * digit : 2 * digit - 9;
      even += count % 2 === 0 ? twice : digit;
      odd += count % 2 === 0 ? digit : twice;
      count += 1;
      if (count > 19) return longest;
    }
    const isCut = isWord(text, at) || (text[at] === "." && isDigit(text, at + 1));
    // No card begins with 0, and 13 digits that begin with 1 are a time in milliseconds.
    const isOther = text[start] === "0" || (count === 13 && text[start] === "1");
    if (count >= 13 && (count % 2 === 0 ? even : odd) % 10 === 0 && !isCut && !isOther) {
      longest = { kind: "cards", start, end: at };
    }
    if ((text[at] !== " " && text[at] !== "-") || !isDigit(text, at + 1)) return longest;
  }
}

/** The address around the `@` at this place. */
function email(text, at) {
  let start = at;
  while (isLocal(text, start - 1)) start -= 1;
  if (start === at) return null;
  let found = null;
  let label = at + 1;
  for (let labels = 1; ; labels += 1) {
    let end = label;
    while (isLabel(text, end)) end += 1;
    if (labels >= 2 && end - label >= 2 && isLetter(text, label)) found = { kind: "emails", start, end };
    if (end === label || text[end] !== ".") return found;
    label = end + 1;
  }
}

// Beyond either end of a text there is `undefined`, which is in none of these.
const isDigit = (text, at) => text[at] >= "0" && text[at] <= "9";
const isLetter = (text, at) => (text[at] >= "a" && text[at] <= "z") || (text[at] >= "A" && text[at] <= "Z");
/** A letter or `_`: a digit beside one belongs to a name, not to a number. */
const isWord = (text, at) => isLetter(text, at) || text[at] === "_";
const isLabel = (text, at) => isLetter(text, at) || isDigit(text, at) || text[at] === "-";
const isLocal = (text, at) => isLabel(text, at) || "._%+".includes(text[at] ?? " ");

/** Settings with their defaults, or an error that says what would be right. */
function parse(json) {
  const settings = { cards: "mask", emails: "mask" };
  let given = null;
  try {
    given = JSON.parse(json);
  } catch {
    // Falls to the error below.
  }
  if (given === null || typeof given !== "object" || Array.isArray(given)) throw "settings must be a JSON object";
  for (const [name, rule] of Object.entries(given)) {
    if (!Object.hasOwn(RULES, name)) throw `unknown setting \`${name}\`: there are \`cards\` and \`emails\``;
    const rules = RULES[name];
    if (!rules.includes(rule)) {
      const quoted = rules.map((rule) => `\`${rule}\``);
      throw `\`${name}\` must be ${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1)}`;
    }
    settings[name] = rule;
  }
  return settings;
}
