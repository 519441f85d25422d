package docket.lib.paths_test

import data.docket.lib.paths

settings := {"filesystem": {"read_roots": ["/data/", "C:/work"], "write_roots": ["/workspace"]}}

test_clean if {
	every pair in [
		["/a/b", "/a/b"],
		["/a//b/", "/a/b"],
		["/a/./b/.", "/a/b"],
		["//a", "/a"],
		["a/b", "a/b"],
		["./a", "a"],
		["/", "/"],
		["", ""],
		[`C:\a\b`, "C:/a/b"],
		["file:///a/b", "/a/b"],
		["FILE:///a/b", "/a/b"],
		["file://localhost/a", "/a"],
		["file:/a", "/a"],
		["file:a", "a"],
	] {
		paths.clean(pair[0]) == pair[1]
	}
}

test_roots_hold_what_is_below_them if {
	every path in ["/workspace", "/workspace/", "/workspace/a", "//workspace//a", "/workspace/./a", "file:///workspace/a%20b"] {
		paths.writable(path) with data.settings as settings
		paths.readable(path) with data.settings as settings
	}

	every path in ["/data/x", "C:/work/x", `C:\work\x`] {
		paths.readable(path) with data.settings as settings
		not paths.writable(path) with data.settings as settings
	}
}

test_roots_hold_nothing_else if {
	every path in ["/", "", "/workspace-old/a", "/workspaces", "/WORKSPACE/a", "workspace/a", "/etc/workspace/a", "C:/worker", "D:/work/x"] {
		not paths.readable(path) with data.settings as settings
		not paths.writable(path) with data.settings as settings
	}
}

test_the_whole_disk_can_be_a_root if {
	paths.readable("/etc/hosts") with data.settings as {"filesystem": {"read_roots": ["/"]}}
	paths.readable("/") with data.settings as {"filesystem": {"read_roots": ["/"]}}
	not paths.readable("etc/hosts") with data.settings as {"filesystem": {"read_roots": ["/"]}}
}

test_unusable_roots_hold_nothing if {
	every roots in ["/", 7, null, {"a": "/"}, [], [""], ["."], ["work"], [7], ["/work/../"], ["~"]] {
		not paths.readable("/etc/hosts") with data.settings as {"filesystem": {"read_roots": roots, "write_roots": roots}}
		not paths.writable("/etc/hosts") with data.settings as {"filesystem": {"read_roots": roots, "write_roots": roots}}
	}

	not paths.readable("/etc/../hosts") with data.settings as {"filesystem": {"read_roots": ["/etc/.."]}}
	not paths.writable("/etc/../hosts") with data.settings as {"filesystem": {"write_roots": ["/etc/.."]}}
	not paths.readable("/etc/hosts") with data.settings as {}
	not paths.readable("/etc/hosts") with data.settings as "nonsense"
}

test_problems if {
	every pair in [
		["/a/../b", "traversal"],
		["..", "traversal"],
		["../a", "traversal"],
		[`a\..\b`, "traversal"],
		["/a/.. /b", "traversal"],
		["/a/.../b", "traversal"],
		["file:///a/../b", "traversal"],
		["file:..", "traversal"],
		["/a/%2e%2e/b", "encoded_path"],
		["/a/%2E./b", "encoded_path"],
		["/a%2fb", "encoded_path"],
		["/a%5Cb", "encoded_path"],
		["/a%252e", "encoded_path"],
		["/a%00.txt", "encoded_path"],
		["/.%73sh/x", "encoded_path"],
		["/%u002e%u002e/", "encoded_path"],
		["/a/\uff0e\uff0e/b", "encoded_path"],
		["/a\u2215b", "encoded_path"],
		["/a\u0000.txt", "control_character"],
		["/a\n", "control_character"],
		[" /a", "control_character"],
		["/a ", "control_character"],
		[`\\host\share`, "network_share"],
		["file://host/a", "network_share"],
		["~/a", "home_path"],
		["~root/a", "home_path"],
		["$HOME/a", "home_path"],
		["${HOME}/a", "home_path"],
		["%USERPROFILE%/a", "home_path"],
	] {
		paths.problem(pair[0]).rule == pair[1]
	}
}

test_ordinary_paths_have_no_problem if {
	every path in ["/a", "a", "", "a..b", "/a/..b", "/a/b..", "/a b/c", "file:///a%20b", "file:///%C3%A9t%C3%A9", "/été", "$.store.book", "/100%", "/a~", "file:///a", "file://localhost/a"] {
		not paths.problem(path)
	}
}

test_secrets if {
	every path in [
		"/home/u/.ssh/id_rsa", "/home/u/.ssh", ".ssh/config", "/home/u/.SSH/known_hosts", "/w/.env", ".env", ".ENV",
		"/w/.env.production", "/w/prod.env", "/w/.envrc", "/w/server.pem", "/w/SERVER.PEM", "/w/tls.key", "/w/tls.key.bak", "/w/a.p12",
		"/w/id_ed25519", "/w/id_rsa.old", "/home/u/.aws/credentials", "/home/u/.kube/config", "/home/u/.docker/config.json",
		"/home/u/.netrc", "/home/u/_netrc", "/home/u/.npmrc", "/home/u/.pypirc", "/home/u/.git-credentials", "/home/u/.bash_history",
		"/etc/shadow", "/etc//shadow", "/etc/./shadow", "/etc/shadow-", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d/x",
		"/proc/self/environ", "/proc/1/task/1/environ", "/proc/self/root/etc/hosts", "/run/secrets/db", "/w/credentials.json",
		"/w/service-account-prod.json", "/w/secrets.yaml", "/w/admin.token", "/w/docket.db", "/w/docket.db-wal",
		"/w/.env.", "/w/.env ", "/w/.env::$DATA", `C:\Users\u\.ssh\id_rsa`, "file:///etc/shadow", "/home/u/.config/gcloud/x",
	] {
		paths.secret(path)
	}
}

test_ordinary_files_are_no_secrets if {
	every path in ["/w/a.txt", "/w/.env.example", "/w/.env.sample", "/w/environment.md", "/w/src/key.rs", "/w/keys/readme.md", "/w/ssh/notes", "/w/history.md", "/etc/hosts", "/w/shadow", "", "/", "/w/monkey", "/w/docket.db.md"] {
		not paths.secret(path)
	}
}

test_protected if {
	every path in ["/w/.git/hooks/pre-commit", "/w/.git/config", "/home/u/.bashrc", "/w/.GIT/config", "/w/.git./config", "/w/.vscode/tasks.json"] {
		paths.protected(path)
	}

	every path in ["/w/.gitignore", "/w/.github/x", "/w/git/config", "/w/bashrc"] {
		not paths.protected(path)
	}
}

found(arguments) := texts if {
	texts := {item.text | some item in paths.found} with input as {"context": {"arguments": arguments}}
}

test_paths_are_found_under_many_names if {
	every name in ["path", "Path", "file_path", "filePath", "paths", "repo_path", "dir", "cwd", "source", "destination", "file", "outputFile", "target"] {
		found({name: "/x"}) == {"/x"}
		found({name: ["/x", ["/y"]]}) == {"/x", "/y"}
		found({"deep": [{"er": {name: "/x"}}]}) == {"/x"}
	}

	found({"anything": "file:///x"}) == {"file:///x"}
	found({"anything": " FILE:/x"}) == {" FILE:/x"}
	found({"source": "../x"}) == {"../x"}
	found({"file": ".env"}) == {".env"}
	found({"source": "x/../../y"}) == {"x/../../y"}
}

test_a_number_for_a_uri_is_another_policys if {
	count(paths.mistyped) == 0 with input as {"resource": {"type": "tool", "id": "x"}, "context": {"arguments": {"uri": 7}}}
	count(paths.mistyped) == 1 with input as {"resource": {"type": "resource", "id": 7}}
}

test_other_text_is_no_path if {
	found({"source": "github", "to": "EUR", "content": "/etc/passwd", "xpath": "//div", "jsonPath": "/a", "message": "file:///x", "file": "a.txt", "path": "https://x.example/a"}) == set()
}
