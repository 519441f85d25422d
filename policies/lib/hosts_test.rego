package docket.lib.hosts_test

import data.docket.lib.hosts

test_host_of_a_url if {
	every pair in [
		["https://docs.rs/x", "docs.rs"],
		["HTTPS://Docs.RS", "docs.rs"],
		["https://docs.rs.", "docs.rs"],
		["https://docs.rs:8443/x", "docs.rs"],
		["https://docs.rs@evil.example/", "evil.example"],
		["https://a:b@evil.example:80/", "evil.example"],
		["https://evil.example#@docs.rs/", "evil.example"],
		["https://evil.example?@docs.rs/", "evil.example"],
		[`https://evil.example\@docs.rs/`, "evil.example"],
		["https:evil.example/x", "evil.example"],
		["https:/evil.example/x", "evil.example"],
		["https:///evil.example/x", "evil.example"],
		["//evil.example/x", "evil.example"],
		["evil.example/x", "evil.example"],
		[" https://evil.example/", "evil.example"],
		["ht\ntps://evil.example/", "evil.example"],
		["http://[::1]:80/x", "::1"],
		["http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"],
		["::1", "::1"],
		["localhost", "localhost"],
		["", ""],
	] {
		hosts.host(pair[0]) == pair[1]
	}
}

test_port_of_a_url if {
	every pair in [["https://a.example/", "443"], ["http://a.example", "80"], ["http://a.example:8080/x", "8080"], ["http://[::1]:99/", "99"], ["http://[::1]/", "80"], ["a.example", ""]] {
		hosts.port(pair[0]) == pair[1]
	}
}

test_scheme_of_a_url if {
	every pair in [["HTTP://a", "http"], ["gopher://a", "gopher"], [" http://a", "http"], ["localhost:80/x", ""], ["/x", ""], ["", ""], ["demo://x", "demo"]] {
		hosts.scheme(pair[0]) == pair[1]
	}
}

test_reserved_hosts if {
	every name in [
		"", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "10.0.0.1",
		"172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "169.254.43518", "100.64.0.1",
		"100.100.100.200", "168.63.129.16", "198.18.0.1", "224.0.0.1", "255.255.255.255", "1.2.3.256", "1.2.3", "1.2.3.4.5", "01.2.3.4",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1", "fe80::1", "fc00::1", "fd00:ec2::254",
		"ff02::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "1::2::3", "localhost", "a.localhost", "printer.local",
		"metadata.google.internal", "metadata", "db", "db.internal", "x.home.arpa", "127.0.0.1.nip.io", "localtest.me", "a..b", "-a.example",
		"exämple.com", "a%2eb.example", "a b.example", "\uff11\uff12\uff17.0.0.1",
	] {
		hosts.reserved(name) != ""
	}
}

test_kinds_of_address if {
	hosts.dotted("1.2.3.4")
	hosts.version_6("::1")
	every name in ["::1", "1.2.3", "a.b.c.d", "1.2.3.256", "01.2.3.4"] {
		not hosts.dotted(name)
	}

	every name in ["1.2.3.4", "a", "", ":::"] {
		not hosts.version_6(name)
	}
}

test_public_hosts if {
	every name in ["docs.rs", "a-b.example.com", "xn--exmple-cua.com", "8.8.8.8", "172.32.0.1", "172.15.0.1", "193.168.1.1", "2606:4700::1111", "localhost.example.com", "mylocalhost.com", "internal.example", "1.example", "a_b.example"] {
		not hosts.reserved(name)
	}
}

test_plain_urls if {
	every text in ["https://a.example", "http://a.example:80/x?y=z#w", "HTTPS://A.example/", "https://[2606:4700::1111]/", "https://a.example/%20x"] {
		hosts.plain(text)
	}

	every text in [
		"https://u@a.example/", "https:a.example", "https:/a.example", "https:///a.example", `https://a.example\x`, "https://a.example/ x",
		" https://a.example", "https://a.example\n", "https://exämple.com/", "https://a%2eexample/", "https://a.example:999999/", "ftp://a.example/",
		"//a.example/", "a.example", "", "https://", "https://[fe80::1%25eth0]/",
	] {
		not hosts.plain(text)
	}
}

test_settings_match_hosts_exactly if {
	every pair in [
		["docs.rs", "https://docs.rs/x"],
		["docs.rs", "https://docs.rs:443/"],
		["docs.rs", "http://docs.rs./"],
		["Docs.rs", "https://DOCS.RS/"],
		["*.wikipedia.org", "https://en.wikipedia.org/"],
		["*.wikipedia.org", "https://a.b.wikipedia.org/"],
		["api.example.com:8443", "https://api.example.com:8443/"],
		["*", "https://anything.example/"],
	] {
		hosts.matches(pair[0], pair[1])
	}

	every pair in [
		["docs.rs", "https://evildocs.rs/"],
		["docs.rs", "https://docs.rs.evil.example/"],
		["docs.rs", "https://x.docs.rs/"],
		["docs.rs", "https://docs.rs:8443/"],
		["docs.rs", "https://docs.rs@evil.example/"],
		["docs.rs", "https://evil.example/docs.rs"],
		["*.wikipedia.org", "https://wikipedia.org/"],
		["*.wikipedia.org", "https://evilwikipedia.org/"],
		["*.wikipedia.org", "https://wikipedia.org.evil.example/"],
		["api.example.com:8443", "https://api.example.com/"],
		["*.4", "https://1.2.3.4/"],
		["", "https:///"],
		["docs.*", "https://docs.rs/"],
		["*docs.rs", "https://evildocs.rs/"],
	] {
		not hosts.matches(pair[0], pair[1])
	}
}
