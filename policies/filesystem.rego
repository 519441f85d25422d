# METADATA
# title: Filesystem
# description: >-
#   Reads inside the read roots and writes inside the write roots, by the tools named in the settings; deletions and moves
#   inside the write roots are held for approval. Secrets, `..`, encoded paths and paths outside the roots are denied for every
#   tool, under every argument that looks like a path, and for `file:` resources.
# custom:
#   id: starter.filesystem
package docket.filesystem

import data.docket.lib.arguments
import data.docket.lib.paths

read_tools := arguments.strings(data.settings.filesystem.read_tools)

write_tools := arguments.strings(data.settings.filesystem.write_tools)

# By the words of its name a tool destroys or changes; by being named in the settings it is known to.
destructive if {
	some word in arguments.words
	word in {
		"chmod", "chown", "delete", "destroy", "erase", "link", "move", "mv", "purge", "remove", "rename", "rm", "rmdir",
		"shred", "symlink", "trash", "truncate", "unlink", "wipe",
	}
}

changing if destructive

changing if arguments.tool in write_tools

changing if {
	not arguments.tool in read_tools
	some word in arguments.words
	word in {
		"add", "append", "apply", "copy", "cp", "create", "download", "edit", "extract", "insert", "make", "mkdir", "modify",
		"overwrite", "patch", "put", "replace", "save", "set", "touch", "unzip", "update", "upload", "write",
	}
}

# A file tool must be told a whole path; to another tool a short one may mean something else.
file_tool if arguments.tool in read_tools

file_tool if arguments.tool in write_tools

file_tool if {
	some word in arguments.words
	word in {"file", "files", "directory", "directories", "dir", "folder"}
}

remote if arguments.server in arguments.strings(data.settings.filesystem.remote_servers)

# A tool that copies only reads its source.
written(found) if {
	changing
	not copied(found)
}

copied(found) if {
	not destructive
	some word in arguments.words
	word in {"copy", "cp"}
	regex.match(`^(source|src|from)`, found.entry.key)
}

# A path may be used as the tool would use it. What may be written may be read.
permitted(found) if paths.writable(found.text)

permitted(found) if {
	not written(found)
	paths.readable(found.text)
}

sound(text) if {
	not paths.problem(text)
	not paths.secret(text)
}

deny contains {
	"rule": problem.rule,
	"message": sprintf("`%s` %s; %s", [found.text, problem.why, paths.advice(paths.read_roots)]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text},
} if {
	some found in paths.found
	problem := paths.problem(found.text)
}

deny contains {
	"rule": "secret_file",
	"message": sprintf("`%s` is a place for credentials and is never opened to an agent; work without it, or ask the user for what you need", [found.text]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text},
} if {
	some found in paths.found
	paths.secret(found.text)
}

deny contains {
	"rule": "outside_read_roots",
	"message": sprintf("`%s` is outside the folders open for reading; %s", [found.text, paths.advice(paths.read_roots)]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text},
} if {
	not remote
	some found in paths.found
	not written(found)
	paths.absolute(found.text)
	not paths.readable(found.text)
}

deny contains {
	"rule": "outside_write_roots",
	"message": sprintf("`%s` is outside the folders open for writing; %s", [found.text, paths.advice(paths.write_roots)]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text},
} if {
	not remote
	some found in paths.found
	written(found)
	paths.absolute(found.text)
	not paths.writable(found.text)
}

deny contains {
	"rule": "relative_path",
	"message": sprintf("`%s` is relative, and its folder is not known here; %s", [found.text, paths.advice(paths.read_roots)]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text},
} if {
	not remote
	file_tool
	some found in paths.found
	paths.named(found.entry.key)
	not paths.absolute(found.text)
	not paths.problem(found.text)
}

deny contains {
	"rule": "protected_file",
	"message": sprintf("`%s` decides what other programs run, so no tool may write it; put your change elsewhere or ask the user to make it", [found.text]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text},
} if {
	not remote
	some found in paths.found
	written(found)
	paths.protected(found.text)
}

deny contains {
	"rule": "path_type",
	"message": sprintf("argument `%s` must be a path as text, or a list of paths", [entry.name]),
	"data": {"argument": arguments.pointer(entry), "type": type_name(entry.value)},
} if {
	not remote
	some entry in paths.mistyped
}

require_approval contains {
	"rule": "destructive",
	"message": sprintf("`%s` changes `%s` for good, so a person must approve it first", [arguments.tool, found.text]),
	"data": {"argument": arguments.pointer(found.entry), "path": found.text, "tool": arguments.tool},
} if {
	destructive
	not remote
	some found in paths.found
}

allow contains {"rule": "read", "message": "reads inside the folders open for reading"} if {
	arguments.tool in read_tools
	not changing
	count(paths.found) > 0
	every found in paths.found {
		sound(found.text)
		paths.readable(found.text)
	}
}

allow contains {"rule": "write", "message": "writes inside the folders open for writing"} if {
	arguments.tool in write_tools
	count(paths.found) > 0
	every found in paths.found {
		sound(found.text)
		permitted(found)
	}
}

allow contains {"rule": "once_approved", "message": "inside the folders open for writing, once a person approved it"} if {
	destructive
	not remote
	count(paths.found) > 0
	every found in paths.found {
		sound(found.text)
		paths.writable(found.text)
	}
}

allow contains {"rule": "read_resource", "message": "a file inside the folders open for reading"} if {
	input.action.name == "resources/read"
	input.resource.type == "resource"
	is_string(input.resource.id)
	startswith(lower(input.resource.id), "file:")
	sound(input.resource.id)
	paths.readable(input.resource.id)
}
