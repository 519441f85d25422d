# METADATA
# title: Paths
# description: >-
#   Which arguments are paths, what they mean once cleaned, and which name secrets. Works on text alone: it cannot see links,
#   so a server that follows links out of its root must be confined by other means.
# custom:
#   id: starter.lib.paths
package docket.lib.paths

import data.docket.lib.arguments

# Names that always hold a path.
names := {
	"cwd", "dir", "directories", "directory", "dirs", "filename", "filenames", "folder", "folders", "workdir",
	"workingdir", "workingdirectory",
}

# Names that hold a path only if the value looks like one.
maybe := {
	"dest", "destination", "dst", "file", "files", "from", "location", "new", "newname", "old", "oldname", "output",
	"root", "roots", "source", "sources", "src", "target", "targets", "to",
}

named(key) if key in names

named(key) if {
	regex.match(`paths?$`, key)
	not key in {"jsonpath", "keypath", "xpath"}
}

# Every string of the call that is a path, with the text as it was written.
found contains {"entry": entry, "text": entry.value} if {
	some entry in arguments.entries
	is_string(entry.value)
	is_path(entry.key, entry.value)
}

is_path(key, text) if {
	named(key)
	not regex.match(`^ *[a-z][a-z0-9+.-]+://`, lower(text))
}

is_path(key, text) if {
	not key in arguments.prose
	regex.match(`^[\x00- ]*file:`, lower(text))
}

is_path(key, text) if {
	possible(key)
	regex.match(`^([/~\\]|\.\.?[/\\]|[A-Za-z]:[/\\]|\$\{?[A-Za-z_])|(^|[/\\])\.\.([/\\]|$)`, text)
}

is_path(key, text) if {
	possible(key)
	secret(text)
}

possible(key) if key in maybe

possible(key) if regex.match(`(file|dir|directory|folder)s?$`, key)

# Path arguments that are neither text, nor a list, nor absent.
mistyped contains entry if {
	some entry in arguments.entries
	regex.match(`^(file)?paths?$`, entry.key)
	not is_string(entry.value)
	not is_array(entry.value)
	not is_null(entry.value)
}

# A resource is named by text.
mistyped contains entry if {
	some entry in arguments.entries
	entry.path == ["uri"]
	input.resource.type == "resource"
	not is_string(entry.value)
}

# Why a path cannot be taken as it stands: it would mean another place to the server than to a reader. Undefined if it can.
problem(text) := {"rule": "control_character", "why": "contains control characters or surrounding blanks"} if {
	regex.match(`[\x00-\x1f\x7f]|^ | $`, text)
} else := {"rule": "encoded_path", "why": "hides characters behind encodings"} if {
	# Percent-encodings that no honest URI needs (letters, digits, `- . _ ~ / \ % *`, control characters), and characters
	# that some file systems fold to `.`, `/` or `\`.
	regex.match(
		`%([01][0-9a-f]|2[5adef]|3[0-9]|4[1-9a-f]|5[0-9acf]|6[1-9a-f]|7[0-9aef])|%u[0-9a-f]|[\x{2024}\x{2025}\x{2044}\x{2215}\x{2216}\x{FF0E}\x{FF0F}\x{FF3C}\x{FE68}]`,
		lower(text),
	)
} else := {"rule": "traversal", "why": "climbs with `..`"} if {
	regex.match(`(^|/) *\.\.[. ]*(/|$)`, slashed(text))
} else := {"rule": "network_share", "why": "names another machine"} if {
	regex.match(`^\\\\|^file://[^/]`, replace(lower(text), "file://localhost/", "file:///"))
} else := {"rule": "home_path", "why": "depends on whose home it is"} if {
	regex.match(`^(~|\$\{?[A-Za-z_][A-Za-z0-9_]*\}?(/|$)|%[A-Za-z]+%)`, slashed(text))
}

# Forward slashes, without `file:` in front.
slashed(text) := regex.replace(
	regex.replace(replace(text, `\`, "/"), `^[Ff][Ii][Ll][Ee]:(//([Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt])?(/))?`, "$3"),
	"/+",
	"/",
)

# The path without doubled slashes, `.` steps and a slash at its end.
clean(text) := joined if {
	body := slashed(text)
	steps := [step | some step in split(body, "/"); not step in {"", "."}]
	joined := concat("", [lead(body), concat("/", steps)])
}

lead(body) := "/" if startswith(body, "/")

else := ""

absolute(text) if startswith(slashed(text), "/")

absolute(text) if regex.match(`^[A-Za-z]:`, slashed(text))

# True if the path is the root itself or below it. Prefixes of names do not count: `/workspace-old` is not in `/workspace`.
inside(text, root) if clean(unspaced(text)) == root

inside(text, root) if startswith(clean(unspaced(text)), concat("", [trim_suffix(root, "/"), "/"]))

unspaced(text) := replace(text, "%20", " ") if startswith(lower(text), "file:")

else := text

writable(text) if {
	some root in write_roots
	inside(text, root)
}

readable(text) if {
	some root in read_roots
	inside(text, root)
}

# Roots that are not absolute paths are ignored, hence allow nothing.
write_roots contains clean(root) if {
	some root in arguments.strings(data.settings.filesystem.write_roots)
	absolute(root)
	not problem(root)
}

read_roots contains clean(root) if {
	some root in arguments.strings(data.settings.filesystem.read_roots)
	absolute(root)
	not problem(root)
}

read_roots contains root if some root in write_roots

# What to do instead, for the end of a message.
advice(roots) := sprintf("use an absolute path under %s", [concat(" or ", [quoted |
	some root in sort(roots)
	quoted := sprintf("`%s`", [root])
])]) if {
	count(roots) > 0
} else := "no folder is open to this kind of call (`settings.filesystem` in data.yaml); ask the operator to name one"

# Names that hold credentials, wherever they lie and however they are cased.
secret(text) if {
	regex.match(
		concat("|", [
			`/\.(ssh|gnupg|aws|azure|kube|docker|password-store)(/|$)`,
			`/\.config/(gcloud|gh|op|rclone|sops)(/|$)`,
			`/[^/]*\.env(\.[^/]*|rc)?$`,
			`/id_(rsa|dsa|ecdsa|ed25519)[^/]*$`,
			`\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)((\.(bak|old|orig|save|swp|txt))|~)?$`,
			`/[._](netrc|pgpass|npmrc|pypirc|git-credentials|htpasswd|vault-token|my\.cnf|[a-z]*_history|histfile)$`,
			`/(\.?credentials|credentials\.json|service[-_]account[^/]*\.json|secrets?\.(ya?ml|json|toml|txt))$`,
			`/etc/(g?shadow-?|sudoers(\.d)?|master\.passwd|krb5\.keytab|ssl/private|security/opasswd)(/|$)`,
			`/proc/([^/]+/)*(environ|mem|kcore|maps|fd|root|cwd)(/|$)`,
			`/run/secrets(/|$)`,
			`/(admin\.token|docket\.db(-wal|-shm)?)$`,
		]),
		bare(text),
	)
	not regex.match(`/[^/]*\.env\.(example|sample|template|dist)$`, bare(text))
}

# Lower case, one slash in front, and each step without the blanks, dots and `:stream` at its end that Windows drops.
bare(text) := regex.replace(
	concat("", ["/", trim_left(lower(clean(text)), "/")]),
	`(:[^/]*|[. ]+)(/|$)`,
	"$2",
)

# Writing here makes a later, innocent command run what was written.
protected(text) if {
	regex.match(
		`/\.git(/|$)|/\.(bashrc|bash_profile|profile|zshrc|zshenv|zprofile|gitconfig|envrc)$|/\.(husky|vscode)(/|$)|/(authorized_keys|crontab)$`,
		bare(text),
	)
}
