# METADATA
# title: URLs and hosts
# description: >-
#   Which arguments are URLs, what host they reach, and whether that host is on the public internet. Names are compared as
#   text: a public name that resolves to a private address is not noticed here, so egress needs a firewall as well.
# custom:
#   id: starter.lib.hosts
package docket.lib.hosts

import data.docket.lib.arguments

named(key) if key in {"endpoint", "endpoints", "href", "link", "links", "proxy", "webhook"}

named(key) if regex.match(`ur[il]s?$`, key)

# Names that hold a bare host.
host_names := {"host", "hostname", "hosts", "ip", "ipaddress"}

# Strings under a name for URLs. What begins with `file:` is a path, and `lib.paths` has it.
found contains {"entry": entry, "text": entry.value} if {
	some entry in arguments.entries
	is_string(entry.value)
	named(entry.key)
	not regex.match(`^[\x00- ]*file:`, lower(entry.value))
}

# Anything that could make a server connect: URLs under any name but those of prose, and bare hosts.
reaching contains url if some url in found

reaching contains {"entry": entry, "text": entry.value} if {
	some entry in arguments.entries
	is_string(entry.value)
	not entry.key in arguments.prose
	regex.match(`^[\x00- ]*[a-z][a-z0-9+.-]*:[/\\]{2}[^\x00- ]+[\x00- ]*$`, lower(entry.value))
}

reaching contains {"entry": entry, "text": entry.value} if {
	some entry in arguments.entries
	is_string(entry.value)
	entry.key in host_names
}

# URL arguments that are neither text, nor a list, nor absent.
mistyped contains entry if {
	some entry in arguments.entries
	regex.match(`^(ur[il]s?|endpoint|href)$`, entry.key)
	entry.path != ["uri"]
	not is_string(entry.value)
	not is_array(entry.value)
	not is_null(entry.value)
}

# The scheme in lower case; empty when there is none. `localhost:80` has none: what follows its colon is a port.
scheme(text) := lower(split(trim(text, " \t\r\n"), ":")[0]) if {
	regex.match(`^[\x00- ]*[a-z][a-z0-9+.-]*:`, lower(text))
	not regex.match(`^[\x00- ]*[a-z0-9.-]+:[0-9]+([/?#]|[\x00- ]*$)`, lower(text))
} else := ""

# A URL of http or https that every reader splits alike: no user, no escapes or strange letters in the host, no backslash.
plain(text) if regex.match(`^https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?([/?#][^\x00-\x20\x7f\\]*)?$`, lower(text))

userinfo(text) if contains(authority(text), "@")

# Everything between the slashes and the path, read as generously as the most generous client would.
authority(text) := regex.replace(
	regex.replace(
		trim_left(replace(replace(replace(replace(lower(text), "\t", ""), "\n", ""), "\r", ""), `\`, "/"), " "),
		`^([a-z][a-z0-9+.-]*:)?/{2,}|^(https?|wss?|ftp):/*`,
		"",
	),
	`[/?#].*$`,
	"",
)

# The host in lower case: no user, port, brackets or dot at its end.
host(text) := trim_suffix(trim_right(bare_host(text), " "), ".")

bare_host(text) := regex.replace(regex.replace(without_user(text), `^\[`, ""), `\].*$`, "") if {
	startswith(without_user(text), "[")
} else := without_user(text) if count(split(without_user(text), ":")) > 2

else := regex.replace(without_user(text), `:.*$`, "")

without_user(text) := regex.replace(authority(text), `^.*@`, "")

# The port as written, or that of the scheme; empty if neither is known.
port(text) := trim_prefix(written_port(text), ":") if written_port(text) != ""

else := "443" if scheme(text) in {"https", "wss"}

else := "80" if scheme(text) in {"http", "ws"}

else := ""

written_port(text) := regex.replace(without_user(text), `^(\[[^\]]*\]|[^:\[]*)`, "")

# What a client takes for an IPv4 address: the last label is a number, decimal, octal or hexadecimal.
numeric(name) if regex.match(`(^|\.)(0x[0-9a-f]*|[0-9]+)$`, name)

dotted(name) if {
	regex.match(`^((0|[1-9][0-9]{0,2})\.){3}(0|[1-9][0-9]{0,2})$`, name)
	net.cidr_is_valid(concat("", [name, "/32"]))
}

version_6(name) if net.cidr_is_valid(concat("", [name, "/128"]))

# Why a host is not on the public internet, or cannot be told to be. Undefined for a public host.
reserved(name) := "has no host" if name == ""

else := "is a link-local or cloud metadata address" if link_local(name)

else := "is an address written in an unusual form" if {
	numeric(name)
	not dotted(name)
} else := "is a private, loopback or reserved address" if {
	dotted(name)
	some range in special_ranges
	net.cidr_contains(range, name)
} else := "is a private, loopback or reserved address" if {
	version_6(name)
	not global_6(name)
} else := "is not a host name or address" if not regex.match(`^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$|^[0-9a-f:.]+$`, name)

else := "is not a host name or address" if {
	contains(name, ":")
	not version_6(name)
} else := "is not a host name or address" if contains(name, "..")

else := "is a name of the local network" if {
	not contains(name, ".")
	not contains(name, ":")
} else := "is a name of the local network" if {
	regex.match(`(^|\.)(localhost|localdomain|local|internal|intranet|lan|home|corp|private|home\.arpa|onion)$`, name)
} else := "is a public name for private addresses" if {
	regex.match(`(^|\.)(nip\.io|sslip\.io|xip\.io|localtest\.me|lvh\.me|vcap\.me|lacolhost\.com|readme\.localtest\.me)$`, name)
}

# Never to be opened, not even by `internal_hosts`: credentials of the machine itself are handed out there.
link_local(name) if {
	dotted(name)
	some range in ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"]
	net.cidr_contains(range, name)
}

link_local(name) if {
	version_6(name)
	some range in ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]
	net.cidr_contains(range, name)
}

# The same address in IPv6 clothes: the last two groups in hexadecimal, or dotted.
link_local(name) if regex.match(`^[0-9a-f:]*:(a9fe:[0-9a-f]{1,4}|169\.254\.[0-9.]+)$`, name)

link_local(name) if name in {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}

special_ranges := [
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4",
]

# Only global unicast, without the ranges that carry an IPv4 address or lead back inside.
global_6(name) if {
	net.cidr_contains("2000::/3", name)
	every range in ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"] {
		not net.cidr_contains(range, name)
	}
}

# True if an entry of the settings names this host and port. An IPv6 address is written in brackets, as in a URL.
matches(entry, text) if {
	listed_host(lower(entry_host(entry)), host(text))
	listed_port(entry, port(text))
}

entry_host(entry) := trim(regex.replace(entry, `:[0-9]+$`, ""), "[]")

listed_host(pattern, name) if {
	pattern == name
	name != ""
}

listed_host("*", name) if name != ""

listed_host(pattern, name) if {
	regex.match(`^\*\.[a-z0-9._-]+$`, pattern)
	not numeric(name)
	endswith(name, trim_prefix(pattern, "*"))
}

listed_port(entry, number) if {
	not regex.match(`:[0-9]+$`, entry)
	number in {"80", "443", ""}
}

listed_port(entry, number) if endswith(entry, concat("", [":", number]))
