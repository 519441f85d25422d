# METADATA
# title: Arguments of a call
# description: >-
#   Finds what a call carries, at any depth and under any spelling of its name, so that a deny cannot be dodged by nesting
#   or by `filePath` for `file_path`. Total: no argument of any type makes it fail.
# custom:
#   id: starter.lib.arguments
package docket.lib.arguments

# The tool's name, or the empty string when the call is not about a tool.
default tool := ""

tool := input.resource.id if {
	input.resource.type == "tool"
	is_string(input.resource.id)
}

default server := ""

server := input.resource.properties.server if is_string(input.resource.properties.server)

# The words of the tool's name: `deleteFile`, `delete-file` and `fs.delete_file` all hold `delete`.
words contains word if {
	spaced := regex.replace(tool, `([a-z0-9])([A-Z])`, "${1}_${2}")
	some word in regex.split(`[^a-z0-9]+`, lower(spaced))
	word != ""
}

# Every node that stands under a name: `{"name": as written, "key": its plain spelling, "path": […], "value": …}`. A member
# of an array stands under the array's name. The URI of a resource and the URL of an HTTP call count as arguments too.
entries contains {"name": name, "key": plain(name), "path": path, "value": value} if {
	walk(input.context.arguments, [path, value])
	names := [step | some step in path; is_string(step)]
	name := names[count(names) - 1]
}

entries contains {"name": "uri", "key": "uri", "path": ["uri"], "value": input.resource.id} if {
	input.resource.type == "resource"
}

entries contains {"name": "url", "key": "url", "path": ["url"], "value": input.resource.id} if {
	input.resource.type == "http"
	is_string(input.resource.id)
	contains(input.resource.id, "://")
}

# The same argument under whatever spelling: `file_path`, `filePath` and `File-Path` are `filepath`.
plain(name) := lower(replace(replace(replace(name, "_", ""), "-", ""), " ", ""))

# An argument that is itself the thing named (`"command": […]`), not a member of it.
direct(entry) if is_string(entry.path[count(entry.path) - 1])

# A JSON pointer to an entry, for the `data` of a diagnostic.
pointer(entry) := concat("", [step |
	some part in entry.path
	step := sprintf("/%v", [part])
])

# Argument names that hold prose. A URL in a text is no request for it.
prose := {
	"body", "code", "comment", "content", "contents", "description", "message", "newstr", "newtext", "note", "oldstr",
	"oldtext", "prompt", "q", "query", "reason", "summary", "text", "thought", "title",
}

# The strings of a setting that should be a list of strings; none if it is anything else.
strings(list) := {text | some text in list; is_string(text)} if is_array(list)

else := set()
