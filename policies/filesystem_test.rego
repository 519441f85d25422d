package docket.filesystem_test

import data.docket.filesystem

settings := {"filesystem": {
	"read_roots": ["/workspace", "/data"],
	"write_roots": ["/workspace"],
	"read_tools": ["read_file", "read_multiple_files", "search_files", "get_patch"],
	"write_tools": ["write_file", "copy_file", "scribble"],
	"remote_servers": ["forge"],
}}

call(tool, arguments) := {
	"subject": {"type": "identity", "id": "a"},
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": tool, "properties": {"server": "any"}},
	"context": {"arguments": arguments},
}

read(uri) := {"action": {"name": "resources/read"}, "resource": {"type": "resource", "id": uri, "properties": {"server": "any"}}, "context": {"arguments": {}}}

denied(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in filesystem.deny} with input as request with data.settings as settings
}

held(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in filesystem.require_approval} with input as request with data.settings as settings
}

allowed(request) := rules if {
	rules := {reason.rule | some reason in filesystem.allow} with input as request with data.settings as settings
}

passes(request) if {
	denied(request) == set()
	held(request) == set()
	count(allowed(request)) > 0
}

test_reading_inside_the_roots if {
	passes(call("read_file", {"path": "/workspace/a.txt"}))
	passes(call("read_file", {"path": "/data/a.txt"}))
	passes(call("read_file", {"path": "//workspace//./a.txt"}))
	passes(call("read_multiple_files", {"paths": ["/workspace/a", "/data/b"]}))
	passes(call("search_files", {"path": "/workspace", "pattern": "**/*.rs", "excludePatterns": ["target"]}))
}

test_writing_inside_the_write_roots if {
	passes(call("write_file", {"path": "/workspace/a.txt", "content": "see /etc/passwd and .env"}))
	passes(call("copy_file", {"source": "/data/a", "destination": "/workspace/a"}))
}

test_reading_outside if {
	denied(call("read_file", {"path": "/etc/passwd"})) == {"outside_read_roots"}
	denied(call("read_file", {"path": "/workspace-old/a"})) == {"outside_read_roots"}
	denied(call("read_file", {"path": `C:\Windows\win.ini`})) == {"outside_read_roots"}
	denied(call("read_multiple_files", {"paths": ["/workspace/a", "/etc/passwd"]})) == {"outside_read_roots"}
	denied(call("read_multiple_files", {"paths": [["/etc/passwd"]]})) == {"outside_read_roots"}
	every path in ["/etc/passwd", "/workspace/../etc/passwd", "/workspace/%2e%2e/etc/passwd", "/workspace/.env", "relative", ""] {
		allowed(call("read_file", {"path": path})) == set()
	}
}

test_writing_outside if {
	denied(call("write_file", {"path": "/data/a"})) == {"outside_write_roots"}
	denied(call("copy_file", {"source": "/workspace/a", "destination": "/data/a"})) == {"outside_write_roots"}
	denied(call("copy_file", {"source": "/etc/passwd", "destination": "/workspace/a"})) == {"outside_read_roots"}
	denied(call("updateNotes", {"path": "/data/a"})) == {"outside_write_roots"}
	allowed(call("write_file", {"path": "/data/a"})) == set()
	allowed(call("copy_file", {"source": "/etc/passwd", "destination": "/workspace/a"})) == set()
}

test_what_a_tool_does_is_told_by_the_settings_or_its_name if {
	passes(call("get_patch", {"path": "/data/a"}))
	denied(call("scribble", {"path": "/data/a"})) == {"outside_write_roots"}
	every word in [
		"add", "append", "apply", "copy", "cp", "create", "download", "edit", "extract", "insert", "make", "mkdir", "modify", "overwrite", "patch", "put", "replace", "save", "set",
		"touch", "unzip", "update", "upload", "write", "chmod", "chown", "delete", "destroy", "erase", "link", "move", "mv", "purge", "remove", "rename", "rm", "rmdir", "shred", "symlink",
		"trash", "truncate", "unlink", "wipe",
	] {
		denied(call(concat("_", [word, "it"]), {"path": "/data/a"})) == {"outside_write_roots"}
		denied(call(concat("_", [word, "it"]), {"path": "a"})) == set()
	}

	denied(call("copy_and_delete", {"source": "/data/a"})) == {"outside_write_roots"}
	denied(call("update_it", {"source": "/data/a"})) == {"outside_write_roots"}
}

test_without_a_path_nothing_is_allowed if {
	every tool in ["read_file", "write_file", "delete_file"] {
		allowed(call(tool, {})) == set()
	}
}

test_a_tool_of_any_name_is_checked if {
	denied(call("mystery", {"filePath": "/etc/passwd"})) == {"outside_read_roots"}
	denied(call("mystery", {"options": [{"target": "/etc/passwd"}]})) == {"outside_read_roots"}
	denied(call("mystery", {"u": "file:///etc/passwd"})) == {"outside_read_roots"}
	denied(call("mystery", {"command": "ls", "cwd": "/etc"})) == {"outside_read_roots"}
	allowed(call("mystery", {"path": "/workspace/a"})) == set()
	denied(call("mystery", {"path": "/workspace/a"})) == set()
	denied(call("mystery", {"path": "relative/a"})) == set()
	denied(call("", {"path": "/etc/passwd"})) == {"outside_read_roots"}
	denied(call(null, {"path": "/etc/passwd"})) == {"outside_read_roots"}
}

test_secrets_are_closed_even_inside if {
	every path in ["/workspace/.env", "/workspace/.ssh/id_rsa", "/workspace/a.pem", "/workspace/.ENV", "//workspace/.env/", "/workspace/.env::$DATA"] {
		denied(call("read_file", {"path": path})) == {"secret_file"}
		allowed(call("read_file", {"path": path})) == set()
		allowed(call("write_file", {"path": path})) == set()
	}

	denied(call("read_file", {"path": "/etc/shadow"})) == {"secret_file", "outside_read_roots"}
	denied(call("mystery", {"file": ".env"})) == {"secret_file"}
	denied(call("mystery", {"path": "config/.env"})) == {"secret_file"}
}

test_secrets_are_closed_when_the_whole_disk_is_open if {
	rules := {found.rule | some found in filesystem.deny} with input as call("read_file", {"path": "/etc/shadow"})
		with data.settings as {"filesystem": {"read_roots": ["/"], "read_tools": ["read_file"]}}
	rules == {"secret_file"}
}

test_climbing_and_disguises if {
	every pair in [
		["/workspace/../etc/passwd", "traversal"],
		[`/workspace\..\..\etc\passwd`, "traversal"],
		["../../etc/passwd", "traversal"],
		["/workspace/%2e%2e/etc/passwd", "encoded_path"],
		["/workspace/%252e%252e/x", "encoded_path"],
		["/workspace/a\u0000.png", "control_character"],
		["~/x", "home_path"],
		[`\\workspace\x`, "network_share"],
	] {
		denied(call("mystery", {"path": pair[0]}))[pair[1]]
		denied(call("read_file", {"path": pair[0]}))[pair[1]]
		allowed(call("read_file", {"path": pair[0]})) == set()
		allowed(call("delete_file", {"path": pair[0]})) == set()
	}
}

test_a_file_tool_needs_an_absolute_path if {
	denied(call("read_file", {"path": "notes.txt"})) == {"relative_path"}
	denied(call("read_file", {"path": "."})) == {"relative_path"}
	denied(call("read_file", {"path": ""})) == {"relative_path"}
	denied(call("open_file", {"path": "notes.txt"})) == {"relative_path"}
	denied(call("get_patch", {"path": "notes.txt"})) == {"relative_path"}
	denied(call("scribble", {"path": "notes.txt"})) == {"relative_path"}
	denied(call("read_file", {"path": "../notes.txt"})) == {"traversal"}
	denied(call("open_file", {"file": ".env"})) == {"secret_file"}
}

test_wrong_types_are_refused_by_name if {
	every value in [7, true, false, {"a": "/workspace/a"}, 1.5] {
		denied(call("read_file", {"path": value}))["path_type"]
		allowed(call("read_file", {"path": value})) == set()
	}

	denied(call("read_multiple_files", {"paths": ["/workspace/a", 7]})) == {"path_type"}
	denied(call("read_file", {"path": null})) == set()
	every arguments in [{}, {"path": null}, {"paths": []}, [], null, "x", 7] {
		allowed(call("read_file", arguments)) == set()
	}
}

test_deleting_and_moving_inside_is_held if {
	every tool in ["delete_file", "deleteFile", "fs-remove", "rm", "trash"] {
		held(call(tool, {"path": "/workspace/a"})) == {"destructive"}
		denied(call(tool, {"path": "/workspace/a"})) == set()
		allowed(call(tool, {"path": "/workspace/a"})) == {"once_approved"}
	}

	held(call("move_file", {"source": "/workspace/a", "destination": "/workspace/b"})) == {"destructive"}
	held(call("undelete_nothing", {"path": "/workspace/a"})) == set()
}

test_deleting_and_moving_outside_is_denied if {
	denied(call("delete_file", {"path": "/data/a"})) == {"outside_write_roots"}
	denied(call("move_file", {"source": "/data/a", "destination": "/workspace/b"})) == {"outside_write_roots"}
	denied(call("move_file", {"source": "/workspace/a", "destination": "/tmp/b"})) == {"outside_write_roots"}
	allowed(call("move_file", {"source": "/workspace/a", "destination": "/tmp/b"})) == set()
}

test_a_destructive_tool_listed_for_reading_stays_destructive if {
	custom := {"filesystem": {"read_roots": ["/workspace"], "write_roots": ["/workspace"], "read_tools": ["delete_file"]}}
	reasons := {reason.rule | some reason in filesystem.allow} with input as call("delete_file", {"path": "/workspace/a"}) with data.settings as custom
	reasons == {"once_approved"}
	count(filesystem.require_approval) == 1 with input as call("delete_file", {"path": "/workspace/a"}) with data.settings as custom
}

test_files_that_run_later_are_not_written if {
	denied(call("write_file", {"path": "/workspace/.git/hooks/post-checkout"})) == {"protected_file"}
	denied(call("read_file", {"path": "/workspace/.git/HEAD"})) == set()
}

test_file_resources if {
	passes(read("file:///workspace/a.txt"))
	passes(read("FILE:///workspace/a%20b.txt"))
	denied(read("file:///etc/passwd")) == {"outside_read_roots"}
	denied(read("file://localhost/etc/passwd")) == {"outside_read_roots"}
	denied(read("file:/etc/passwd")) == {"outside_read_roots"}
	denied(read("file:///workspace/../etc/passwd"))["traversal"]
	denied(read("file:///workspace/%2e%2e/etc/passwd"))["encoded_path"]
	denied(read("file://evil.example/workspace/a"))["network_share"]
	denied(read("file:///workspace/.env")) == {"secret_file"}
	denied(read(7)) == {"path_type"}
	denied(read("demo://resource/1")) == set()
	allowed(read("demo://resource/1")) == set()
	allowed(read("file:///workspace/.env")) == set()
	allowed(read("file:///etc/passwd")) == set()
	allowed(read("/workspace/a.txt")) == set()
	allowed(object.union(read("file:///workspace/a.txt"), {"action": {"name": "resources/subscribe"}})) == set()
	allowed(object.union(read("file:///workspace/a.txt"), {"resource": {"type": "tool"}})) == set()
	allowed(read("file:///workspace/../etc/passwd")) == set()
}

at_forge(tool, arguments) := object.union(call(tool, arguments), {"resource": {"properties": {"server": "forge"}}})

test_paths_of_a_remote_server_are_not_on_this_machine if {
	every path in ["/src/main.rs", "src/main.rs", "/etc/passwd", 7] {
		denied(at_forge("get_file", {"path": path})) == set()
		denied(at_forge("delete_file", {"path": path})) == set()
		held(at_forge("delete_file", {"path": path})) == set()
	}

	denied(at_forge("write_file", {"path": ".git/config"})) == set()
	allowed(at_forge("delete_file", {"path": "/workspace/a"})) == set()
	denied(at_forge("get_file", {"path": "../.env"})) == {"secret_file", "traversal"}
}

test_missing_settings_keep_every_deny if {
	every broken in [{}, {"filesystem": {}}, {"filesystem": "x"}, "x", {"filesystem": {"read_roots": "/", "write_roots": 7, "read_tools": "read_file", "remote_servers": "any"}}] {
		every tool in ["read_file", "write_file", "delete_file", "mystery"] {
			count(filesystem.deny) > 0 with input as call(tool, {"path": "/workspace/a"}) with data.settings as broken
			count(filesystem.allow) == 0 with input as call(tool, {"path": "/workspace/a"}) with data.settings as broken
		}
	}
}

test_messages_say_what_to_do if {
	messages := {found.message | some found in filesystem.deny} with input as call("read_file", {"path": "/etc/passwd"}) with data.settings as settings
	messages == {"`/etc/passwd` is outside the folders open for reading; use an absolute path under `/data` or `/workspace`"}
	lost := {found.message | some found in filesystem.deny} with input as call("read_file", {"path": "/etc/passwd"}) with data.settings as {}
	lost == {"`/etc/passwd` is outside the folders open for reading; no folder is open to this kind of call (`settings.filesystem` in data.yaml); ask the operator to name one"}
	details := {found.data | some found in filesystem.deny} with input as call("read_file", {"path": "/etc/passwd"}) with data.settings as settings
	details == {{"argument": "/path", "path": "/etc/passwd"}}
}

test_the_settings_of_the_set_open_the_workspace if {
	count(filesystem.allow) == 1 with input as call("read_text_file", {"path": "/workspace/a"})
	count(filesystem.allow) == 1 with input as call("edit_file", {"path": "/workspace/a", "edits": [{"oldText": "/a", "newText": ".env"}]})
	count(filesystem.deny) == 0 with input as call("edit_file", {"path": "/workspace/a", "edits": [{"oldText": "/a", "newText": ".env"}]})
	count(filesystem.deny) == 1 with input as call("read_text_file", {"path": "/etc/passwd"})
}
