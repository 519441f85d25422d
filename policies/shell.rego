# METADATA
# title: Shell
# description: >-
#   Command lines: a short list of commands that only look passes, known ways to ruin a machine or to carry credentials off are
#   denied, everything else is held for approval. The list of dangers catches accidents and plain attacks; what protects from a
#   clever one is that only the listed commands pass without a person.
# custom:
#   id: starter.shell
package docket.shell

import data.docket.lib.arguments
import data.docket.lib.paths

shell_tools := arguments.strings(data.settings.shell.tools)

listed if arguments.tool in shell_tools

exempt if arguments.tool in arguments.strings(data.settings.shell.exempt_tools)

# Tools that run what they are given, by the settings or by the words of their name.
shell_tool if listed

shell_tool if {
	some word in arguments.words
	word in {
		"bash", "cmd", "command", "commands", "exec", "execute", "powershell", "pwsh", "python", "repl", "script", "sh", "shell",
		"ssh", "subprocess", "terminal", "zsh",
	}
}

is_command(key) if {
	key in {
		"bash", "cmd", "cmdline", "cmds", "command", "commandline", "commands", "exec", "execute", "powershell", "script",
		"scripts", "shellscript",
	}
}

is_command(key) if regex.match(`command$`, key)

is_command(key) if {
	shell_tool
	key in {"argv", "code", "input", "line", "program", "source", "stdin", "text"}
}

command_entries contains entry if {
	some entry in arguments.entries
	is_command(entry.key)
}

# What stands behind the command when it is given apart.
rest := [text |
	some key in ["args", "arguments", "argv", "parameters"]
	some text in flat_list(input.context.arguments[key])
]

flat_list(value) := [value] if is_string(value)

else := [text | some text in value; is_string(text)] if is_array(value)

else := []

# Command lines as they would be run: one for each text, list of words, and command with arguments.
lines contains concat(" ", array.concat([entry.value], rest)) if {
	some entry in command_entries
	arguments.direct(entry)
	is_string(entry.value)
}

lines contains concat(" ", array.concat(flat_list(entry.value), rest)) if {
	some entry in command_entries
	arguments.direct(entry)
	is_array(entry.value)
	not entry.key in {"cmds", "commands", "scripts"}
}

lines contains entry.value if {
	some entry in command_entries
	is_string(entry.value)
	entry.key in {"cmds", "commands", "scripts"}
}

# Lines and their parts, with the tricks taken out that a shell would take out too.
texts contains flat(line) if some line in lines

texts contains flat(entry.value) if {
	some entry in command_entries
	is_string(entry.value)
}

flat(text) := regex.replace(
	regex.replace(
		replace(replace(replace(replace(lower(text), "\\\n", ""), "\r", "\n"), "\n", " ; "), "\t", " "),
		`['"\\]|\$[@*]|\$\{[@*]\}`,
		"",
	),
	`\$\{?ifs\}?(\$9)?| +`,
	" ",
)

mistyped contains entry if {
	some entry in command_entries
	not is_string(entry.value)
	not is_array(entry.value)
	not is_null(entry.value)
}

mistyped contains entry if {
	shell_tool
	some entry in arguments.entries
	entry.key in {"args", "arguments", "argv", "parameters"}
	not is_string(entry.value)
	not is_array(entry.value)
	not is_null(entry.value)
}

# Each danger: how it looks in a flattened line, and what to do instead. `start` is where a command or a path to one begins.
start := `(^|[^a-z0-9_.-])`

interpreters := `(ba|z|da|k|c|tc|fi|a)?sh`

# A pipe, and what may stand before the program that reads from it.
piped := `\| *((([^ |;&]*/)?(sudo|env|nohup|exec|time|nice|command|busybox|xargs)|[a-z_0-9]+=[^ |;&]*|-[^ |;&]*) +)*([^ |;&]*/)?`

dangers := {
	"recursive_delete": {
		"patterns": [
			concat("", [start, `rm( [^;&|]*)? (-[a-z]*r[a-z]*|--recursive)( [^;&|]*)?`, root_target]),
			concat("", [start, `rm( [^;&|]*)?`, root_target, `([^;&|]* )?(-[a-z]*r[a-z]*|--recursive)`]),
			concat("", [start, `rm [^;&|]*--no-preserve-root`]),
			`\{rm,`,
			concat("", [start, `find (/|~|\$home)[^;&|]* (-delete|-exec(dir)? [^ ]*rm )`]),
			`(remove-item|rmdir|rd|del)( [^;&|]*)? (-recurse|/s)`,
		],
		"advice": "delete named files inside the workspace one by one",
	},
	"download_and_run": {
		"patterns": [
			concat("", [piped, interpreters, `( |$|[;&|)\x60])`]),
			concat("", [start, `(curl|wget|iwr|invoke-webrequest|fetch)[^;]*`, piped, `(python[0-9.]*|perl|ruby|node|php|pwsh|powershell|iex)( *$| *- *$| *[;&|])`]),
			concat("", [start, `(`, interpreters, `|eval|source|\.|exec|iex|python[0-9.]*|perl) [^;]*(<\(|\$\(|\x60)[^)]*(curl|wget|base64|iwr)`]),
			`(iex|invoke-expression)[^;]*(downloadstring|invoke-webrequest|iwr|curl)`,
			concat("", [start, `(curl|wget) [^|]*(&&|;)[^|]*`, start, interpreters, ` `]),
		],
		"advice": "download to a file in the workspace, read it, and run what you understood",
	},
	"privilege": {
		"patterns": [concat("", [start, `(sudo|doas|su|pkexec|runas|gsudo)( |$|;)`])],
		"advice": "work without other rights, or ask the user to run it",
	},
	"disk": {
		"patterns": [
			concat("", [start, `(mkfs(\.[a-z0-9]+)?|mke2fs|fdisk|sfdisk|parted|wipefs|mkswap|blkdiscard|diskpart|cryptsetup)( |$|;)`]),
			concat("", [start, `dd [^;|&]*of= ?/dev/[a-z]`]),
			`/dev/(sd|hd|vd|xvd|nvme|mmcblk|disk|rdisk|mapper|mem|kmem|port|dm-|loop)`,
			`(^|[;&|] *)format [a-z]:`,
		],
		"advice": "leave disks and devices to the user",
	},
	"fork_bomb": {
		"patterns": [`[^ ;]+ *\( *\) *\{[^}]*\|[^}]*& *;? *\}`, `%0 ?\| ?%0`],
		"advice": "run programs one after the other",
	},
	"credentials": {
		"patterns": [
			`(^|[;&|({\x60] *)(history|printenv|env|set|export( -p)?|declare -[a-z]+|compgen -v|get-childitem env:|dir env:)( *$| *[;&|>)\x60])`,
			concat("", [start, `fc -l`]),
			concat("", [start, `(printenv|history) `]),
			`_history($|[ ;&|>)])|gpg[^;]* --export-secret|find-(generic|internet)-password|aws configure (get|export)|gcloud auth [^;]*print|gh auth token|get secrets?( |$|/)|vault (kv get|read)|mimikatz|lsass|secretsdump`,
		],
		"advice": "ask the user for the one value you need",
	},
	"metadata_address": {
		"patterns": [`169\.254\.|metadata\.google|100\.100\.100\.200|fd00:ec2|2852039166|0xa9fea9fe|::ffff:a9fe`],
		"advice": "the machine's own credentials are not for tools; ask the user",
	},
	"reverse_shell": {
		"patterns": [`/dev/(tcp|udp)/`, concat("", [start, `(nc|ncat|netcat|socat) [^;|]*(-[a-z]*[ec] |exec:|--exec)`])],
		"advice": "use a fetch tool for network access",
	},
	"machine": {
		"patterns": [
			concat("", [start, `(shutdown|reboot|halt|poweroff|init [06]|systemctl (poweroff|reboot|halt))( |$|;)`]),
			concat("", [start, `kill (-[a-z0-9]+ )+-1( |$|;)`]),
			concat("", [start, `(chmod|chown|chgrp) [^;&|]*-[a-z]*r[a-z]* [^;&|]* ?`, root_target]),
			concat("", [`> ?/etc/|`, start, `crontab |`, start, `(insmod|modprobe|iptables|nft) `]),
		],
		"advice": "leave the machine and its services to the user",
	},
}

# The root, a folder right under it, a home, everything here, or anything that climbs.
root_target := ` (--|[^ ;&|]*\.\.(/[^ ;&|]*)?|/[/.*]*|/+[a-z0-9_.-]+/?\*?|[a-z]:/?\*?|(~|\$\{?home\}?)[a-z0-9_-]*/?\*?|\.?/?\*|\./?)( |$|[;&|)>}\x60])`

hazards[rule] contains text if {
	some rule, danger in dangers
	some text in texts
	some pattern in danger.patterns
	regex.match(pattern, text)
}

# Words of a line that could be paths. `-f/etc/x`, `--file=x` and `HEAD:x` hold one each.
pieces(line) := [piece | some piece in regex.split("[ \t\n\r;|&<>(){}=:,@'\"`$]+", line); piece != ""]

# A line that a shell takes as it stands: no quoting, expansion, redirection or second command.
simple(line) if regex.match(`^[A-Za-z0-9_./,:=@%+ -]+$`, line)

permitted(line) if {
	simple(line)
	some command in arguments.strings(data.settings.shell.allow)
	begins(line, command)
	count([piece | some piece in pieces(line); not harmless(piece)]) == 0
}

begins(line, command) if line == command

begins(line, command) if startswith(line, concat("", [command, " "]))

harmless(piece) if {
	not paths.problem(piece)
	not paths.secret(piece)
	not regex.match(`^-.*/|^--?(ou|ext|te|exe|up|op|no-i)`, piece)
	placed(piece)
}

placed(piece) if not paths.absolute(piece)

placed(piece) if paths.readable(piece)

# An argument that is not known could change what the line means (`env`, `stdin`, `user`).
known_arguments if {
	every name, _ in input.context.arguments {
		arguments.plain(name) in {
			"args", "argv", "cmd", "command", "commands", "cwd", "description", "timeout", "timeoutms", "timeoutseconds", "workdir",
			"workingdirectory",
		}
	}
}

looks_only if {
	listed
	known_arguments
	count(mistyped) == 0
	count(lines) > 0
	every line in lines {
		permitted(line)
	}
}

deny contains {
	"rule": rule,
	"message": sprintf("this command line is too dangerous to run (%s); %s", [replace(rule, "_", " "), dangers[rule].advice]),
	"data": {"command": text},
} if {
	some rule, found in hazards
	some text in found
}

deny contains {
	"rule": "secret_in_command",
	"message": sprintf("`%s` is a place for credentials and is never opened to an agent; work without it, or ask the user for what you need", [piece]),
	"data": {"path": piece},
} if {
	some text in texts
	some piece in pieces(text)
	paths.secret(piece)
}

deny contains {
	"rule": "command_type",
	"message": sprintf("argument `%s` must be a command line as text, or a list of words", [entry.name]),
	"data": {"argument": arguments.pointer(entry), "type": type_name(entry.value)},
} if {
	not exempt
	some entry in mistyped
}

deny contains {
	"rule": "no_command",
	"message": sprintf("`%s` needs a command line in `command`", [arguments.tool]),
	"data": {"tool": arguments.tool},
} if {
	listed
	not exempt
	count([line | some line in lines; trim_space(line) != ""]) == 0
}

require_approval contains {
	"rule": "command",
	"message": sprintf("`%s` is not among the commands that pass by themselves, so a person must approve it first; %s", [line, advice]),
	"data": {"command": line, "tool": arguments.tool},
} if {
	not exempt
	not looks_only
	some line in lines
}

advice := sprintf("these pass, one at a time and without quotes, pipes or redirection: %s", [concat(", ", sort([quoted |
	some command in arguments.strings(data.settings.shell.allow)
	quoted := sprintf("`%s`", [command])
]))]) if {
	count(arguments.strings(data.settings.shell.allow)) > 0
} else := "no command passes by itself (`settings.shell.allow` in data.yaml)"

allow contains {"rule": "looks_only", "message": "a command that only looks"} if looks_only

allow contains {"rule": "once_approved", "message": "any other command, once a person approved it"} if {
	listed
	not exempt
	not looks_only
	count(lines) > 0
}
