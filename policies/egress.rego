# METADATA
# title: HTTP egress
# description: >-
#   URLs go to listed hosts only. Private, loopback, link-local and metadata addresses in any spelling, other schemes, users in
#   URLs and URLs that two readers would split differently are denied for every tool. Requests that send something are held.
# custom:
#   id: starter.egress
package docket.egress

import data.docket.lib.arguments
import data.docket.lib.hosts

fetch_tools := arguments.strings(data.settings.egress.fetch_tools)

# Plain HTTP calls are fetches themselves.
fetches if arguments.tool in fetch_tools

fetches if input.resource.type == "http"

default method := "GET"

method := upper(input.action.name) if {
	input.resource.type == "http"
	is_string(input.action.name)
} else := "of an unknown kind" if input.resource.type == "http"

else := upper(input.context.arguments.method) if is_string(input.context.arguments.method)

else := "of an unknown kind" if input.context.arguments.method != null

# A request that changes something elsewhere, or carries something out.
sends if not method in {"GET", "HEAD", "OPTIONS"}

sends if {
	some entry in arguments.entries
	entry.key in {"body", "data", "files", "form", "formdata", "json", "payload", "postdata"}
	not entry.value in {null, ""}
}

internal_allowed(text) if {
	some entry in arguments.strings(data.settings.egress.internal_hosts)
	not contains(entry, "*")
	hosts.matches(entry, text)
	not hosts.link_local(hosts.host(text))
}

listed(text) if {
	some entry in arguments.strings(data.settings.egress.hosts)
	hosts.matches(entry, text)
	not hosts.reserved(hosts.host(text))
}

listed(text) if internal_allowed(text)

# Sent over the network by their scheme, or at least not to be opened by a tool that fetches.
web(text) if hosts.scheme(text) in {"http", "https"}

advice := sprintf("hosts open to tools: %s", [concat(", ", sort([quoted |
	some entry in arguments.strings(data.settings.egress.hosts)
	quoted := sprintf("`%s`", [entry])
]))]) if {
	count(arguments.strings(data.settings.egress.hosts)) > 0
} else := "no host is open to tools (`settings.egress.hosts` in data.yaml); ask the operator to list one"

deny contains {
	"rule": "internal_address",
	"message": sprintf("`%s` %s, and is closed to tools; use a public host", [hosts.host(url.text), why]),
	"data": {"argument": arguments.pointer(url.entry), "host": hosts.host(url.text)},
} if {
	some url in hosts.reaching
	network(url)
	why := hosts.reserved(hosts.host(url.text))
	not internal_allowed(url.text)
}

# What names a host: a URL of a network scheme, one without a scheme given to a tool that fetches, a bare host.
network(url) if hosts.scheme(url.text) in network_schemes

network(url) if {
	url.entry.key in hosts.host_names
	url.text != ""
}

network(url) if {
	hosts.scheme(url.text) == ""
	looks_like_host(url.text)
}

looks_like_host(text) if startswith(replace(trim_space(text), `\`, "/"), "//")

looks_like_host(text) if hosts.numeric(hosts.host(text))

looks_like_host(text) if startswith(trim_space(text), "[")

looks_like_host(text) if regex.match(`(^|\.)(localhost|internal|local)$|^metadata`, hosts.host(text))

network_schemes := {
	"dict", "ftp", "ftps", "git", "gopher", "gophers", "http", "https", "imap", "imaps", "jar", "ldap", "ldaps", "mongodb",
	"mysql", "netdoc", "nfs", "pop3", "postgres", "postgresql", "redis", "rediss", "rtmp", "rtsp", "sftp", "smb", "smtp", "smtps",
	"ssh", "telnet", "tftp", "ws", "wss",
}

deny contains {
	"rule": "scheme",
	"message": sprintf("`%s` is not a URL of http or https; tools may use no other", [url.text]),
	"data": {"argument": arguments.pointer(url.entry), "scheme": hosts.scheme(url.text)},
} if {
	some url in hosts.found
	not web(url.text)
	refused_scheme(url)
}

# An identifier such as `demo://item/1` is fine as a resource, not as an address to fetch; `data:` carries its content itself.
refused_scheme(url) if hosts.scheme(url.text) in network_schemes

refused_scheme(url) if {
	not hosts.scheme(url.text) in {"", "data"}
	not regex.match(`uris?$`, url.entry.key)
}

refused_scheme(_) if fetches

deny contains {
	"rule": "userinfo",
	"message": sprintf("`%s` holds a user name before `@`, which hides the real host `%s`; write the URL without it", [url.text, hosts.host(url.text)]),
	"data": {"argument": arguments.pointer(url.entry), "host": hosts.host(url.text)},
} if {
	some url in hosts.reaching
	web(url.text)
	hosts.userinfo(url.text)
}

deny contains {
	"rule": "unclear_url",
	"message": sprintf("`%s` can be read in more than one way; write it as `https://host/path`, the host in plain ASCII (`xn--…` for other letters) and blanks as `%%20`", [url.text]),
	"data": {"argument": arguments.pointer(url.entry), "url": url.text},
} if {
	some url in hosts.found
	web(url.text)
	not hosts.plain(url.text)
	not hosts.userinfo(url.text)
}

deny contains {
	"rule": "host_not_listed",
	"message": sprintf("`%s` port %s is not on the list; %s", [hosts.host(url.text), hosts.port(url.text), advice]),
	"data": {"argument": arguments.pointer(url.entry), "host": hosts.host(url.text), "port": hosts.port(url.text)},
} if {
	some url in hosts.found
	hosts.plain(url.text)
	not hosts.reserved(hosts.host(url.text))
	not listed(url.text)
}

deny contains {
	"rule": "url_type",
	"message": sprintf("argument `%s` must be a URL as text, or a list of URLs", [entry.name]),
	"data": {"argument": arguments.pointer(entry), "type": type_name(entry.value)},
} if {
	some entry in hosts.mistyped
}

require_approval contains {
	"rule": "sends_data",
	"message": sprintf("a %s request to `%s` may change something or carry data out, so a person must approve it first", [method, hosts.host(url.text)]),
	"data": {"argument": arguments.pointer(url.entry), "host": hosts.host(url.text), "method": method},
} if {
	fetches
	sends
	some url in hosts.found
	web(url.text)
}

allow contains {"rule": "listed_host", "message": "fetches from listed hosts"} if {
	fetches
	count(hosts.found) > 0
	every url in hosts.found {
		hosts.plain(url.text)
		listed(url.text)
	}
}

allow contains {"rule": "web_resource", "message": "a resource on a listed host"} if {
	input.action.name == "resources/read"
	input.resource.type == "resource"
	is_string(input.resource.id)
	hosts.plain(input.resource.id)
	listed(input.resource.id)
}
