# METADATA
# title: Files agents may read
# custom:
#   id: acme.files
package acme.files

path := input.context.arguments.path

reads if input.resource.id in {"read_file", "list_directory"}

allow contains {"rule": "workspace"} if {
	reads
	startswith(path, "/workspace/")
}

allow contains {"rule": "reports"} if {
	reads
	startswith(path, "/reports/")
}

allow contains {"rule": "write_workspace"} if {
	input.resource.id == "write_file"
	startswith(path, "/workspace/")
}

deny contains {"rule": "keys", "message": sprintf("`%s` is a key; ask for a token instead", [path])} if {
	endswith(path, ".pem")
}
