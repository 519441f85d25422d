// A redaction hook for docket: takes payment cards and e-mail addresses out of what is recorded.
//
// What counts as a card or an address is defined in docket's `examples/redactors/README.md`, beside the same hook in Rust,
// JavaScript and Python. `redactor.h` and `redactor.c` are what `wit-bindgen c wit` (0.61.1) made of the interface. To build
// it, once `pip install ziglang==0.17.0`, then
//
//   python -m ziglang cc -target wasm32-wasi -mexec-model=reactor -Os -Wl,--strip-all hook.c redactor.c -o core.wasm
//   wasm-tools component embed wit core.wasm | wasm-tools component new -o redactor.wasm

#include <stdlib.h>
#include <string.h>

#include "redactor.h"

// A text with more matches than this is masked as a whole: docket looks for each part in all of the text.
#define MAX_PARTS 100

typedef redactor_string_t string;
typedef docket_redaction_types_edit_t edit;

// What a match is, and where. Names of kinds are edits' categories.
typedef enum { CARD, EMAIL } kind;
static const char *const CATEGORY[] = {"payment-card", "email"};
typedef struct {
  kind kind;
  size_t start, end;
} match;

// The matches of one text, in an array that grows.
typedef struct {
  match *items;
  size_t count, room;
} matches;

// What becomes of a match. Settings hold one of these for each kind, as in `{"cards": "keep-last-4", "emails": "hash"}`.
typedef enum { MASK, HASH, OFF, KEEP_LAST_4, RULES } rule;
static const char *const RULE[] = {"mask", "hash", "off", "keep-last-4"};
typedef rule settings[2];

// ---- Finding ----

static bool is_digit(string text, size_t at) { return at < text.len && text.ptr[at] - '0' < 10u; }

static bool is_letter(string text, size_t at) { return at < text.len && (text.ptr[at] | 32) - 'a' < 26u; }

static bool is_one_of(const char *set, string text, size_t at) {
  return at < text.len && text.ptr[at] != 0 && strchr(set, text.ptr[at]);
}

// A letter or `_`: a digit beside one belongs to a name, not to a number.
static bool is_word(string text, size_t at) { return is_letter(text, at) || is_one_of("_", text, at); }

static bool is_local(string text, size_t at) {
  return is_letter(text, at) || is_digit(text, at) || is_one_of("._%+-", text, at);
}

static bool is_label(string text, size_t at) {
  return is_letter(text, at) || is_digit(text, at) || is_one_of("-", text, at);
}

// Whether a card starts here, and where the longest one ends.
static bool card(string text, size_t start, size_t *end) {
  if (start >= 1 && (is_digit(text, start - 1) || is_word(text, start - 1))) return false;
  if (start >= 2 && text.ptr[start - 1] == '.' && is_digit(text, start - 2)) return false;
  // Luhn's sum for an even and for an odd number of digits: every other digit counts double, the last one never.
  unsigned even = 0, odd = 0, count = 0;
  bool found = false;
  for (size_t at = start;; at++) {
    for (; is_digit(text, at); at++) {
      unsigned digit = text.ptr[at] - '0', twice = digit < 5 ? 2 * digit : 2 * digit - 9;
      even += count % 2 == 0 ? twice : digit;
      odd += count % 2 == 0 ? digit : twice;
      if (++count > 19) return found;
    }
    bool is_cut = is_word(text, at) || (is_one_of(".", text, at) && is_digit(text, at + 1));
    // No card begins with 0, and 13 digits that begin with 1 are a time in milliseconds.
    bool is_other = text.ptr[start] == '0' || (count == 13 && text.ptr[start] == '1');
    if (count >= 13 && (count % 2 == 0 ? even : odd) % 10 == 0 && !is_cut && !is_other) {
      *end = at;
      found = true;
    }
    if (!is_one_of(" -", text, at) || !is_digit(text, at + 1)) return found;
  }
}

// Whether there is an address around the `@` at this place, and its start and end.
static bool email(string text, size_t at, size_t *start, size_t *end) {
  bool found = false;
  for (*start = at; *start > 0 && is_local(text, *start - 1);) --*start;
  if (*start == at) return false;
  size_t label = at + 1;
  for (unsigned labels = 1;; labels++) {
    size_t stop = label;
    while (is_label(text, stop)) stop++;
    if (labels >= 2 && stop - label >= 2 && is_letter(text, label)) {
      *end = stop;
      found = true;
    }
    if (stop == label || !is_one_of(".", text, stop)) return found;
    label = stop + 1;
  }
}

// Every match from left to right. Matches that overlap become one, of the kind of the first.
static void scan(string text, const settings rules, matches *found) {
  found->count = 0;
  for (size_t at = 0; at < text.len; at++) {
    match hit = {CARD, at, at};
    if (rules[CARD] != OFF && is_digit(text, at)) {
      if (!card(text, at, &hit.end)) continue;
    } else if (rules[EMAIL] != OFF && text.ptr[at] == '@') {
      hit.kind = EMAIL;
      if (!email(text, at, &hit.start, &hit.end)) continue;
    } else {
      continue;
    }
    while (found->count > 0 && found->items[found->count - 1].end > hit.start) {
      match last = found->items[--found->count];
      hit.kind = last.kind;
      if (last.start < hit.start) hit.start = last.start;
      if (last.end > hit.end) hit.end = last.end;
    }
    if (found->count == found->room) {
      found->room = 2 * found->room + 8;
      found->items = realloc(found->items, found->room * sizeof(match));
      if (!found->items) abort();
    }
    found->items[found->count++] = hit;
  }
}

// ---- Settings: an object of plain strings, which is all that they can be ----

static void step(string *json, size_t bytes) {
  json->ptr += bytes;
  json->len -= bytes;
}

static void skip_space(string *json) {
  while (is_one_of(" \t\r\n", *json, 0)) step(json, 1);
}

// Steps over this character, if it is the next after white space.
static bool eat(string *json, char wanted) {
  skip_space(json);
  bool is_next = json->len > 0 && json->ptr[0] == wanted;
  if (is_next) step(json, 1);
  return is_next;
}

// Steps over a string without escapes.
static bool eat_string(string *json, string *out) {
  if (!eat(json, '"')) return false;
  uint8_t *quote = memchr(json->ptr, '"', json->len);
  if (!quote) return false;
  *out = (string){json->ptr, quote - json->ptr};
  step(json, out->len + 1);
  return true;
}

static bool equals(string text, const char *other) {
  return text.len == strlen(other) && memcmp(text.ptr, other, text.len) == 0;
}

static bool unknown(string name, string *err) {
  static const char before[] = "unknown setting `", after[] = "`: there are `cards` and `emails`";
  size_t head = sizeof before - 1, tail = sizeof after - 1;
  err->len = head + name.len + tail;
  err->ptr = malloc(err->len);
  if (!err->ptr) abort();
  memcpy(err->ptr, before, head);
  memcpy(err->ptr + head, name.ptr, name.len);
  memcpy(err->ptr + head + name.len, after, tail);
  return false;
}

static bool bad(const char *message, string *err) {
  redactor_string_dup(err, message);
  return false;
}

static bool parse(string json, settings rules, string *err) {
  static const char malformed[] = "settings must be a JSON object";
  rules[CARD] = rules[EMAIL] = MASK;
  if (!eat(&json, '{')) return bad(malformed, err);
  for (bool is_first = true; !eat(&json, '}'); is_first = false) {
    string name, value;
    if (!is_first && !eat(&json, ',')) return bad(malformed, err);
    if (!eat_string(&json, &name) || !eat(&json, ':')) return bad(malformed, err);
    bool is_card = equals(name, "cards");
    if (!is_card && !equals(name, "emails")) return unknown(name, err);
    rule chosen = RULES, last = is_card ? KEEP_LAST_4 : OFF;
    if (eat_string(&json, &value))
      for (chosen = MASK; chosen <= last && !equals(value, RULE[chosen]);) chosen++;
    if (chosen > last)
      return bad(is_card ? "`cards` must be `mask`, `hash`, `keep-last-4` or `off`"
                         : "`emails` must be `mask`, `hash` or `off`", err);
    rules[is_card ? CARD : EMAIL] = chosen;
  }
  skip_space(&json);
  return json.len == 0 || bad(malformed, err);
}

// ---- The hook ----

// What becomes of a text or number with these matches.
static void act(rule rule, bool is_number, string text, const matches *found, docket_redaction_types_action_t *action) {
  bool is_whole = is_number || (found->items[0].start == 0 && found->items[0].end == text.len);
  if (rule == HASH && is_whole) {
    action->tag = DOCKET_REDACTION_TYPES_ACTION_HASH;
    return;
  }
  if (rule == KEEP_LAST_4 && is_whole && !is_number) {
    action->tag = DOCKET_REDACTION_TYPES_ACTION_KEEP_LAST;
    action->val.keep_last = 4;
    return;
  }
  if (is_whole || found->count > MAX_PARTS) {
    action->tag = DOCKET_REDACTION_TYPES_ACTION_MASK;
    return;
  }
  action->tag = DOCKET_REDACTION_TYPES_ACTION_MASK_TEXT;
  redactor_list_string_t *parts = &action->val.mask_text;
  parts->len = found->count;
  parts->ptr = malloc(found->count * sizeof(string));
  if (!parts->ptr) abort();
  for (size_t i = 0; i < found->count; i++) {
    const match *part = &found->items[i];
    redactor_string_dup_n(&parts->ptr[i], (const char *)text.ptr + part->start, part->end - part->start);
  }
}

// At most one edit for each field, in the order of the fields. What is returned is freed by the generated code; docket
// calls an instance only once, so what came in is left to end with it.
bool exports_docket_redaction_hook_redact(exports_docket_redaction_hook_context_t *context,
                                          exports_docket_redaction_hook_list_field_t *fields,
                                          exports_docket_redaction_hook_list_edit_t *edits, string *err) {
  settings rules;
  if (!parse(context->settings, rules, err)) return false;
  matches found = {0};
  edits->len = 0;
  edits->ptr = calloc(fields->len, sizeof(edit));
  if (!edits->ptr && fields->len > 0) abort();
  for (size_t i = 0; i < fields->len; i++) {
    docket_redaction_types_value_t *value = &fields->ptr[i].value;
    bool is_number = value->tag == DOCKET_REDACTION_TYPES_VALUE_NUMBER;
    if (!is_number && value->tag != DOCKET_REDACTION_TYPES_VALUE_TEXT) continue;
    string text = is_number ? value->val.number : value->val.text;
    scan(text, rules, &found);
    if (found.count == 0) continue;
    kind kind = found.items[0].kind;
    edit *edit = &edits->ptr[edits->len++];
    edit->field = i;
    redactor_string_dup(&edit->category, CATEGORY[kind]);
    act(rules[kind], is_number, text, &found, &edit->action);
  }
  free(found.items);
  return true;
}

// The generated code asks for this so that the linker keeps an object file with the interface's types. Here the types are
// put in by `wasm-tools component embed`, and nothing has to be kept.
void __component_type_object_force_link_redactor(void) {}
