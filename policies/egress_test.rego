package docket.egress_test

import data.docket.egress

settings := {"egress": {
	"hosts": ["docs.rs", "*.wikipedia.org", "api.example.com:8443", "127.0.0.1", "localhost"],
	"internal_hosts": ["localhost:3000", "10.1.2.3", "169.254.169.254", "metadata.google.internal", "*", "[fd00::7]:80", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]"],
	"fetch_tools": ["fetch"],
}}

call(tool, arguments) := {
	"subject": {"type": "identity", "id": "a"},
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": tool, "properties": {"server": "any"}},
	"context": {"arguments": arguments},
}

fetch(url) := call("fetch", {"url": url})

http(method, url) := {"action": {"name": method}, "resource": {"type": "http", "id": url}, "context": {}}

denied(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in egress.deny} with input as request with data.settings as settings
}

held(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in egress.require_approval} with input as request with data.settings as settings
}

allowed(request) := rules if {
	rules := {reason.rule | some reason in egress.allow} with input as request with data.settings as settings
}

passes(request) if {
	denied(request) == set()
	held(request) == set()
	count(allowed(request)) > 0
}

test_listed_hosts_pass if {
	every url in ["https://docs.rs/regorus", "HTTPS://DOCS.RS/", "http://docs.rs:80/", "https://en.wikipedia.org/wiki/Rego?x=y#z", "https://api.example.com:8443/v1", "http://localhost:3000/health", "http://10.1.2.3/", "http://[fd00::7]/"] {
		passes(fetch(url))
	}

	passes(call("fetch", {"urls": ["https://docs.rs/a", "https://docs.rs/b"]}))
	passes(call("fetch", {"url": "https://docs.rs/a", "method": "head", "max_length": 5000}))
}

test_other_hosts_do_not if {
	every url in ["https://evil.example/", "https://evildocs.rs/", "https://docs.rs.evil.example/", "https://wikipedia.org/", "https://docs.rs:8443/", "https://api.example.com/", "https://8.8.8.8/", "https://[2606:4700::1111]/", "https://evil.example/?u=https://docs.rs/"] {
		denied(fetch(url)) == {"host_not_listed"}
		allowed(fetch(url)) == set()
	}

	denied(call("fetch", {"urls": ["https://docs.rs/a", "https://evil.example/"]})) == {"host_not_listed"}
	allowed(call("fetch", {"urls": ["https://docs.rs/a", "https://evil.example/"]})) == set()
	denied(call("mystery", {"options": {"webhook_url": "https://evil.example/"}})) == {"host_not_listed"}
	allowed(call("mystery", {"url": "https://docs.rs/"})) == set()
}

internal := [
	"http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/", "http://0xa9.0xfe.0xa9.0xfe/",
	"http://0251.0376.0251.0376/", "http://169.254.43518/", "http://[::ffff:169.254.169.254]/", "http://[::ffff:a9fe:a9fe]/",
	"http://[fd00:ec2::254]/", "http://metadata.google.internal/", "http://metadata.google.internal./", "http://METADATA/",
	"http://localhost/", "http://localhost:8080/", "http://LocalHost./", "http://127.0.0.1/", "http://127.1/", "http://2130706433/",
	"http://0x7f000001/", "http://017700000001/", "http://0/", "http://0.0.0.0:22/", "http://[::1]/", "http://[::]/",
	"http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[fe80::1]/",
	"http://10.0.0.1/", "http://172.20.0.1/", "http://192.168.0.1:8080/", "http://100.64.0.1/", "http://redis:6379/", "http://db.internal/",
	"http://127.0.0.1.nip.io/", "http://printer.local/", "http://1.2.3.4.5/",
]

test_internal_addresses_are_closed_to_every_tool if {
	every url in internal {
		denied(fetch(url)) == {"internal_address"}
		denied(call("mystery", {"callbackUrl": url})) == {"internal_address"}
		denied(call("mystery", {"data": [{"anything": url}]})) == {"internal_address"}
		denied(http("GET", url)) == {"internal_address"}
		allowed(fetch(url)) == set()
		allowed(http("GET", url)) == set()
	}
}

test_internal_addresses_in_other_clothes if {
	every url in [
		"http:169.254.169.254/", "http:/169.254.169.254/", "http:///169.254.169.254/", `http:\\169.254.169.254\`, " http://169.254.169.254/",
		"ht\ttp://169.254.169.254/", "//169.254.169.254/", "169.254.169.254/latest", "169.254.169.254", "2852039166/x", "[::1]/x", "localhost/x",
		"gopher://127.0.0.1:6379/_x", "ftp://10.0.0.1/", "redis://localhost:6379", "ws://127.0.0.1/", `//127.0.0.1\@docs.rs/`,
		"https://docs.rs@169.254.169.254/", "https://docs.rs:x@127.0.0.1/", "http://127.0.0.1#@docs.rs/", `http://127.0.0.1\@docs.rs/`,
		"http://127.0.0.1%2f@docs.rs", "http://１２７.0.0.1/", "http://127。0。0。1/", "http://",
	] {
		count(denied(fetch(url))) > 0
		allowed(fetch(url)) == set()
	}

	every url in ["http:169.254.169.254/", "//169.254.169.254/", "169.254.169.254/latest", "localhost:80/x", "https://docs.rs@169.254.169.254/", "gopher://127.0.0.1:6379/_x", "http:2130706433/", "//redis/x", "[fe80::1]/x", "redis://localhost"] {
		denied(call("mystery", {"url": url}))["internal_address"]
	}
}

test_a_bare_host_is_checked if {
	every name in ["host", "hostname", "ip"] {
		denied(call("mystery", {name: "169.254.169.254"})) == {"internal_address"}
		denied(call("mystery", {"headers": {name: "localhost"}})) == {"internal_address"}
		denied(call("mystery", {name: "redis"})) == {"internal_address"}
		denied(call("mystery", {name: "docs.rs"})) == set()
		denied(call("mystery", {name: 7})) == set()
		denied(call("mystery", {name: ""})) == set()
	}
}

test_metadata_cannot_be_opened_by_a_setting if {
	denied(fetch("http://169.254.169.254/")) == {"internal_address"}
	denied(fetch("http://[fd00:ec2::254]/")) == {"internal_address"}
	denied(fetch("http://[::ffff:a9fe:a9fe]/")) == {"internal_address"}
	denied(fetch("http://metadata.google.internal/")) == {"internal_address"}
}

test_an_open_internal_host_is_that_port_only if {
	denied(fetch("http://localhost:3001/")) == {"internal_address"}
	denied(fetch("http://sub.localhost:3000/")) == {"internal_address"}
	denied(fetch("http://10.1.2.4/")) == {"internal_address"}
}

test_users_in_urls if {
	denied(fetch("https://docs.rs@evil.example/"))["userinfo"]
	denied(fetch("https://user:secret@docs.rs/")) == {"userinfo"}
	allowed(fetch("https://user:secret@docs.rs/")) == set()
	passes(fetch("https://docs.rs/@user"))
}

test_other_schemes if {
	every url in ["ftp://docs.rs/", "gopher://docs.rs/", "javascript:alert(1)", "dict://docs.rs/", "ssh://docs.rs/", "data:text/html,x", "docs.rs/x", "//docs.rs/x", "", "/x", "blob:https://docs.rs/x", "view-source:https://docs.rs/"] {
		denied(fetch(url))["scheme"]
		allowed(fetch(url)) == set()
	}

	denied(call("mystery", {"url": "ftp://docs.rs/"})) == {"scheme"}
	denied(call("mystery", {"uri": "ftp://docs.rs/"})) == {"scheme"}
	denied(call("mystery", {"uri": "demo://item/1"})) == set()
	denied(call("mystery", {"image_url": "data:image/png;base64,AAAA"})) == set()
	denied(call("mystery", {"url": "/relative"})) == set()
	denied(call("mystery", {"url": "readme"})) == set()
	denied(call("mystery", {"uri": "demo://localhost/1"})) == set()
	denied(call("mystery", {"url": "file:///workspace/a"})) == set()
	denied(call("mystery", {"url": "javascript:alert(1)"})) == {"scheme"}
	denied(call("mystery", {"url": "ftp://u@evil.example/"})) == {"scheme"}
	denied(call("mystery", {"endpoint": "ftp://docs.rs/"})) == {"scheme"}
	denied(call("mystery", {"links": ["https://evil.example/"]})) == {"host_not_listed"}
	allowed(fetch("file:///workspace/a")) == set()
}

test_unclear_urls if {
	every url in ["https://exämple.com/", "https://docs.rs/a b", " https://docs.rs/", "https://docs.rs\n", "https:docs.rs", "https:///docs.rs", `https://docs.rs\x`, "https://docs%2ers/", "https://docs.rs:99999999/"] {
		denied(fetch(url))["unclear_url"]
		allowed(fetch(url)) == set()
	}
}

test_an_unclear_url_is_only_that if {
	denied(fetch("https://evil.example/a b")) == {"unclear_url"}
}

test_prose_is_not_a_request if {
	every name in ["message", "content", "text", "body", "query"] {
		denied(call("echo", {name: "http://localhost:3001"})) == set()
	}

	denied(call("mystery", {"anything": "see http://localhost:3001 for more"})) == set()
	denied(call("mystery", {"anything": "http://localhost:3001 and more"})) == set()
	denied(call("mystery", {"anything": "http://localhost:3001"})) == {"internal_address"}
}

test_requests_that_send_are_held if {
	every method in ["POST", "put", "PATCH", "DELETE", "", "X", 7] {
		held(call("fetch", {"url": "https://docs.rs/", "method": method})) == {"sends_data"}
	}

	held(call("fetch", {"url": "https://docs.rs/", "body": "x"})) == {"sends_data"}
	held(call("fetch", {"url": "https://docs.rs/", "json": {"a": 1}})) == {"sends_data"}
	held(http("POST", "https://docs.rs/")) == {"sends_data"}
	allowed(http("POST", "https://docs.rs/")) == {"listed_host"}
	held(call("fetch", {"url": "https://docs.rs/", "method": null, "body": null})) == set()
	held(http("GET", "https://docs.rs/")) == set()
	held(http(7, "https://docs.rs/")) == {"sends_data"}
	held(call("mystery", {"url": "https://docs.rs/", "method": "POST"})) == set()
	held(call("fetch", {"url": "ftp://docs.rs/", "method": "POST"})) == set()
	passes(http("GET", "https://docs.rs/"))
}

test_wrong_types_are_refused_by_name if {
	every value in [7, true, false, {"a": "https://docs.rs/"}] {
		denied(fetch(value)) == {"url_type"}
		allowed(fetch(value)) == set()
	}

	denied(call("fetch", {"urls": ["https://docs.rs/", 7]})) == {"url_type"}
	every arguments in [{}, {"url": null}, {"urls": []}, [], null, "x", 7] {
		denied(call("fetch", arguments)) == set()
		allowed(call("fetch", arguments)) == set()
	}
}

test_web_resources if {
	request := {"action": {"name": "resources/read"}, "resource": {"type": "resource", "id": "https://docs.rs/x"}, "context": {}}
	passes(request)
	denied(object.union(request, {"resource": {"id": "https://evil.example/"}})) == {"host_not_listed"}
	denied(object.union(request, {"resource": {"id": "http://127.0.0.1/"}})) == {"internal_address"}
	denied(object.union(request, {"resource": {"id": "demo://127.0.0.1/"}})) == set()
	allowed(object.union(request, {"resource": {"id": "https://evil.example/"}})) == set()
	allowed(object.union(request, {"resource": {"id": 7}})) == set()
	allowed(object.union(request, {"resource": {"id": "https://docs.rs/a b"}})) == set()
	allowed(object.union(request, {"resource": {"type": "tool"}})) == set()
	allowed(object.union(request, {"action": {"name": "resources/subscribe"}})) == set()
}

test_missing_settings_keep_every_deny if {
	every broken in [{}, "x", {"egress": {}}, {"egress": {"hosts": "docs.rs", "internal_hosts": "localhost", "fetch_tools": "fetch"}}, {"egress": {"hosts": [7, null, ""], "fetch_tools": ["fetch"]}}] {
		every url in ["https://docs.rs/", "http://localhost/", "ftp://docs.rs/", "https://u@docs.rs/"] {
			count(egress.deny) > 0 with input as fetch(url) with data.settings as broken
			count(egress.allow) == 0 with input as fetch(url) with data.settings as broken
		}
	}
}

test_a_star_opens_public_hosts_only if {
	open := {"egress": {"hosts": ["*"], "fetch_tools": ["fetch"]}}
	count(egress.allow) == 1 with input as fetch("https://anything.example/") with data.settings as open
	every url in internal {
		count(egress.allow) == 0 with input as fetch(url) with data.settings as open
		count(egress.deny) == 1 with input as fetch(url) with data.settings as open
	}
}

test_messages_say_what_to_do if {
	messages := {found.message | some found in egress.deny} with input as fetch("https://evil.example/") with data.settings as {"egress": {"hosts": ["docs.rs", "*.wikipedia.org"]}}
	messages == {"`evil.example` port 443 is not on the list; hosts open to tools: `*.wikipedia.org`, `docs.rs`"}
	lost := {found.message | some found in egress.deny} with input as fetch("https://evil.example/") with data.settings as {}
	lost == {"`evil.example` port 443 is not on the list; no host is open to tools (`settings.egress.hosts` in data.yaml); ask the operator to list one"}
	blanks := {found.message | some found in egress.deny} with input as fetch("https://docs.rs/a b") with data.settings as settings
	some message in blanks
	contains(message, "blanks as `%20`")
}

test_the_settings_of_the_set if {
	count(egress.allow) == 1 with input as fetch("https://docs.rs/")
	count(egress.deny) == 0 with input as fetch("https://docs.rs/")
	count(egress.deny) == 1 with input as fetch("https://evil.example/")
}
