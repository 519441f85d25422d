package docket.tools_test

import data.docket.tools

settings := {"tools": {"allow": ["echo", "everything/add"], "trusted_servers": ["clock"], "resource_schemes": ["demo", "file", "https"], "allow_prompts": true}}

call(server, tool, arguments) := {
	"subject": {"type": "identity", "id": "a"},
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": tool, "properties": {"server": server, "annotations": {"readOnlyHint": true}}},
	"context": {"arguments": arguments},
}

denied(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in tools.deny} with input as request with data.settings as settings
}

allowed(request) := rules if {
	rules := {reason.rule | some reason in tools.allow} with input as request with data.settings as settings
}

test_listed_tools if {
	allowed(call("any", "echo", {"message": "hello"})) == {"listed_tool"}
	allowed(call("any", "echo", null)) == {"listed_tool"}
	allowed(call("everything", "add", {})) == {"listed_tool"}
	allowed({"action": {"name": "tools/call"}, "resource": {"type": "tool", "id": "echo"}}) == {"listed_tool"}
}

test_other_tools if {
	allowed(call("other", "add", {})) == set()
	every tool in ["Echo", "echo2", "", "everything/echo", null, 7, ["echo"]] {
		allowed(call("any", tool, {})) == set()
	}

	allowed(object.union(call("any", "echo", {}), {"action": {"name": "tools/list"}})) == set()
	allowed(object.union(call("clock", "echo", {}), {"action": {"name": "tools/list"}})) == set()
	allowed(object.union(call("any", "echo", {}), {"resource": {"type": "prompt"}})) == set()
}

test_a_server_is_not_believed_unless_trusted if {
	allowed(call("clock", "anything", {})) == {"read_only_tool"}
	allowed(call("Clock", "anything", {})) == set()
	allowed(object.union(call("clock", "anything", {}), {"resource": {"properties": {"annotations": {"readOnlyHint": "true"}}}})) == set()
	allowed(object.union(call("clock", "anything", {}), {"resource": {"properties": {"annotations": null}}})) == set()
}

test_arguments_must_be_an_object if {
	every value in [[], [{"path": "/x"}], "text", 7, true, false] {
		denied(call("any", "echo", value)) == {"arguments_type"}
		allowed(call("any", "echo", value)) == set()
		allowed(call("clock", "anything", value)) == set()
	}

	every value in [null, {}, {"a": 1}] {
		denied(call("any", "echo", value)) == set()
	}

	denied({}) == set()
}

test_the_environment_is_not_printed if {
	every tool in ["get-env", "getEnv", "printenv", "env", "get_environment", "list-environ"] {
		denied(call("any", tool, {})) == {"environment"}
	}

	every tool in ["get-envelope", "create_environment", "environment_delete", "get_deployment_environment_status"] {
		denied(call("any", tool, {})) == set()
	}
}

resource(uri) := {"action": {"name": "resources/read"}, "resource": {"type": "resource", "id": uri}, "context": {}}

test_resources_of_the_servers_own_schemes if {
	allowed(resource("demo://resource/1")) == {"resource"}
	allowed(resource("DEMO://resource/1")) == {"resource"}
	every uri in ["file:///etc/passwd", "FILE:///x", "https://x.example/", "demox://x", "demo", "", "x demo://x", null, 7, ["demo://x"]] {
		allowed(resource(uri)) == set()
	}
}

test_reading_is_one_action_on_one_type if {
	allowed(object.union(resource("demo://x"), {"action": {"name": "resources/subscribe"}})) == set()
	allowed(object.union(resource("demo://x"), {"resource": {"type": "tool"}})) == set()
	allowed({"action": {"name": "prompts/get"}, "resource": {"type": "tool", "id": "p"}}) == set()
}

test_prompts if {
	prompt := {"action": {"name": "prompts/get"}, "resource": {"type": "prompt", "id": "p"}, "context": {"arguments": {}}}
	allowed(prompt) == {"prompt"}
	every value in [false, null, "true", 1] {
		count(tools.allow) == 0 with input as prompt with data.settings as {"tools": {"allow_prompts": value}}
	}
}

test_missing_settings_allow_nothing if {
	every broken in [{}, "x", {"tools": {}}, {"tools": {"allow": "echo", "trusted_servers": "any", "resource_schemes": "demo"}}] {
		every request in [call("any", "echo", {}), resource("demo://x"), call("any", "get-env", {})] {
			count(tools.allow) == 0 with input as request with data.settings as broken
		}

		count(tools.deny) == 1 with input as call("any", "get-env", {}) with data.settings as broken
		count(tools.deny) == 1 with input as call("any", "echo", 7) with data.settings as broken
	}
}

test_the_settings_of_the_set if {
	count(tools.allow) == 1 with input as call("everything", "echo", {"message": "hello"})
	count(tools.allow) == 0 with input as call("everything", "get-env", {})
	count(tools.allow) == 0 with input as call("everything", "unheard-of", {})
	count(tools.allow) == 1 with input as resource("demo://resource/static/document/features.md")
}
