# METADATA
# title: Ordinary tools
# description: >-
#   Allows the harmless tools named in the settings, resources of a server's own schemes, and prompts. Denies arguments that
#   no other policy could look into, and tools that print the server's environment.
# custom:
#   id: starter.tools
package docket.tools

import data.docket.lib.arguments

readable_arguments if is_object(input.context.arguments)

readable_arguments if object.get(input, ["context", "arguments"], null) == null

listed := arguments.strings(data.settings.tools.allow)

known if arguments.tool in listed

known if sprintf("%s/%s", [arguments.server, arguments.tool]) in listed

deny contains {
	"rule": "arguments_type",
	"message": "`arguments` must be a JSON object, with one member for each argument of the tool",
	"data": {"type": type_name(input.context.arguments)},
} if {
	not readable_arguments
}

# Credentials reach most servers through their environment.
deny contains {
	"rule": "environment",
	"message": sprintf("`%s` would print the server's environment, credentials included; ask the user for the one value you need", [arguments.tool]),
	"data": {"tool": arguments.tool},
} if {
	some word in arguments.words
	word in {"env", "environ", "environment", "getenv", "printenv"}
	some verb in arguments.words
	verb in {"dump", "env", "environ", "get", "getenv", "list", "print", "printenv", "read", "show"}
	count(arguments.words) < 4
}

allow contains {"rule": "listed_tool", "message": "named in `settings.tools.allow`"} if {
	input.action.name == "tools/call"
	arguments.tool != ""
	readable_arguments
	known
}

allow contains {"rule": "read_only_tool", "message": "a trusted server calls it read-only"} if {
	input.action.name == "tools/call"
	arguments.tool != ""
	readable_arguments
	arguments.server in arguments.strings(data.settings.tools.trusted_servers)
	input.resource.properties.annotations.readOnlyHint == true
}

allow contains {"rule": "resource", "message": "a resource in the server's own namespace"} if {
	input.action.name == "resources/read"
	input.resource.type == "resource"
	is_string(input.resource.id)
	parts := split(input.resource.id, ":")
	count(parts) > 1
	scheme := lower(parts[0])
	scheme in arguments.strings(data.settings.tools.resource_schemes)
	not scheme in {"file", "http", "https"}
}

allow contains {"rule": "prompt", "message": "a text that the server offers to its user"} if {
	input.action.name == "prompts/get"
	input.resource.type == "prompt"
	data.settings.tools.allow_prompts == true
}
