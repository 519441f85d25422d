# Start here. This folder is docket's starter set, and this comment is the contract every policy keeps.
#
# What a policy sees. `input` is one call, an AuthZEN evaluation request:
#
#     {
#       "subject":  {"type": "identity", "id": "billing-bot",
#                    "properties": {"agent": "billing-bot", "user": "…", "team": "…", "zone": "default", "roles": ["agent"]}},
#       "action":   {"name": "tools/call"},
#       "resource": {"type": "tool", "id": "read_file", "properties": {"server": "filesystem", "annotations": {}}},
#       "context":  {"arguments": {"path": "/workspace/notes.txt"}, "request_id": "…", "time": "…", "peer": "…"}
#     }
#
# `action.name` is the MCP method, or the HTTP method of a plain HTTP call. `resource.type` is `tool`, `resource` (its id
# is a URI), `prompt`, `mcp_server` or `http`. Arguments come from a language model: anything may be missing, of another
# type, or written to deceive.
#
# What a policy says. A policy is a package; it may define any of
#
#     allow            contains {"rule": "…", "message": "…"} if { … }
#     deny             contains {"rule": "…", "message": "…", "data": {…}} if { … }
#     require_approval contains {"rule": "…", "message": "…", "data": {…}} if { … }
#
# Over all policies: any deny wins; else any require_approval holds the call until a person approves it; else any allow
# lets it pass; else it is denied, because nothing allowed it. An approved call needs an allow too, so a policy that holds
# also allows. A message is read by the model whose call was refused: say what to do instead. A package with none of the
# three is a library (see `lib/`).
#
# How this set is built. Deny and hold rules look at what a call carries, whatever the tool and the server are called.
# Allow rules name tools. What is yours to change is in `data.yaml`; a setting that is missing or of the wrong type allows
# nothing, and takes no deny away.
#
# A decision can be repeated. There is no network and no clock of its own: `time.now_ns()` is the time of the recorded call.
# An error in a built-in (`startswith(42, "/")`) denies the call with status `error`, so ask `is_string` and the like first.
#
# Tests. `*_test.rego` files are never in force; each `test_…` rule must be true: `docket test policies`, or
# `opa test policies`. Settings are swapped in a test by `with data.settings as {…}`. Copy a file, change it, and break it
# once to see its test fail.

# METADATA
# title: Protocol handshake
# description: >-
#   Lets a client connect, list what there is, and follow what it started. Without this no MCP client gets past
#   `initialize`. None of it runs a tool or reads a resource.
# custom:
#   id: starter.handshake
#   targets:
#     actions:
#       - initialize
#       - server/discover
#       - ping
#       - tools/list
#       - resources/list
#       - resources/templates/list
#       - prompts/list
#       - completion/complete
#       - logging/setLevel
#       - resources/subscribe
#       - resources/unsubscribe
#       - subscriptions/listen
#       - tasks/*
package docket.handshake

# Named one by one, although docket denies methods it does not know: a list can be read, a pattern must be thought about.
methods := {
	"initialize",
	"server/discover",
	"ping",
	"tools/list",
	"resources/list",
	"resources/templates/list",
	"prompts/list",
	"completion/complete",
	"logging/setLevel",
	"resources/subscribe",
	"resources/unsubscribe",
	"subscriptions/listen",
	"tasks/get",
	"tasks/list",
	"tasks/result",
	"tasks/update",
	"tasks/cancel",
}

allow contains {"rule": "protocol", "message": "part of the protocol; it runs nothing"} if {
	input.action.name in methods
}
