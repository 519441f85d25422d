# METADATA
# title: Peers
# description: Lets conformance suites do everything but delete files.
# custom:
#   id: peers.everything
package peers.everything

allow contains {"rule": "everything"}

deny contains {"rule": "no_delete", "message": sprintf("`%v` must not be deleted; archive it instead", [input.context.arguments.path])} if {
	input.resource.id == "delete_file"
}
