package docket.handshake_test

import data.docket.handshake

method(name) := {
	"subject": {"type": "identity", "id": "a"},
	"action": {"name": name},
	"resource": {"type": "mcp_server", "id": "everything", "properties": {"server": "everything"}},
	"context": {"arguments": {}},
}

test_every_method_of_the_protocol_is_allowed if {
	every name in [
		"initialize", "server/discover", "ping", "tools/list", "resources/list", "resources/templates/list",
		"prompts/list", "completion/complete", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
		"subscriptions/listen", "tasks/get", "tasks/list", "tasks/result", "tasks/update", "tasks/cancel",
	] {
		count(handshake.allow) == 1 with input as method(name)
	}
}

test_nothing_that_acts_is_allowed if {
	every name in ["tools/call", "resources/read", "prompts/get", "GET", "POST", "", "Initialize", "tools/list/", "tasks/", "x/list"] {
		count(handshake.allow) == 0 with input as method(name)
	}
}

test_a_strange_action_is_not_allowed if {
	every action in [null, {}, {"name": null}, {"name": 7}, {"name": ["initialize"]}, {"name": {"initialize": true}}, "initialize"] {
		count(handshake.allow) == 0 with input as {"action": action}
	}

	count(handshake.allow) == 0 with input as {}
}
