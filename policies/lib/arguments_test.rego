package docket.lib.arguments_test

import data.docket.lib.arguments

with_arguments(value) := {
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": "fs.deleteFile-now", "properties": {"server": "s"}},
	"context": {"arguments": value},
}

keys(value) := found if {
	found := {entry.key | some entry in arguments.entries} with input as with_arguments(value)
}

test_names_are_found_at_any_depth_and_in_any_spelling if {
	keys({"file_path": "a", "filePath": "b", "File-Path": "c"}) == {"filepath"}
	keys({"a": {"b": [{"Path": "x"}]}}) == {"a", "b", "path"}
	keys([{"path": "x"}]) == {"path"}
}

test_members_of_a_list_stand_under_its_name if {
	found := {[entry.key, entry.value] | some entry in arguments.entries; is_string(entry.value)} with input as with_arguments({"paths": ["a", ["b"]]})
	found == {["paths", "a"], ["paths", "b"]}
}

test_pointer_names_the_place if {
	found := {arguments.pointer(entry) | some entry in arguments.entries; entry.value == "b"} with input as with_arguments({"paths": ["a", "b"]})
	found == {"/paths/1"}
}

test_words_of_a_name if {
	found := arguments.words with input as with_arguments({})
	found == {"fs", "delete", "file", "now"}
	none := arguments.words with input as {}
	none == set()
}

test_strange_input_has_no_entries_and_no_error if {
	every value in [null, 7, "text", true, [], {}, [[["x"]]]] {
		keys(value) == set()
	}

	every whole in [{}, {"context": null}, {"context": []}, {"context": "x"}, {"resource": 7}, {"resource": {"type": "tool", "id": null}}] {
		count(arguments.entries) == 0 with input as whole
		arguments.tool == "" with input as whole
		arguments.server == "" with input as whole
	}
}

test_a_uri_and_a_url_count_as_arguments if {
	found := {entry.value | some entry in arguments.entries} with input as {"resource": {"type": "resource", "id": "file:///x"}}
	found == {"file:///x"}
	other := {entry.value | some entry in arguments.entries} with input as {"resource": {"type": "http", "id": "https://x.example/"}}
	other == {"https://x.example/"}
	every id in ["/path", 7, null] {
		count(arguments.entries) == 0 with input as {"resource": {"type": "http", "id": id}}
	}
}

test_a_setting_of_another_type_holds_nothing if {
	arguments.strings(["a", 7, null, "b"]) == {"a", "b"}
	every value in [null, 7, "text", true, {"a": "b"}] {
		arguments.strings(value) == set()
	}
}
