"""Makes the schemas of answers strict: a member that is not documented is a failure."""

import schemathesis


def referred_from_all_of(node, found):
    """Names of components that are only a part of another object."""
    if isinstance(node, dict):
        for part in node.get("allOf", []):
            if "$ref" in part:
                found.add(part["$ref"].rsplit("/", 1)[1])
        for value in node.values():
            referred_from_all_of(value, found)
    elif isinstance(node, list):
        for value in node:
            referred_from_all_of(value, found)


def close(node):
    """Closes every object below; parts of another are closed where they are put together."""
    if isinstance(node, list):
        for value in node:
            close(value)
    if not isinstance(node, dict):
        return
    if "allOf" in node:
        node["unevaluatedProperties"] = False
        for part in node["allOf"]:
            for value in part.get("properties", {}).values():
                close(value)
        return
    for value in node.values():
        close(value)
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        node["additionalProperties"] = False


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    parts = set()
    referred_from_all_of(raw_schema, parts)
    asked = set()

    def bodies(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "requestBody":
                    asked.add(value["content"]["application/json"]["schema"].get("$ref", "").rsplit("/", 1)[-1])
                bodies(value)

    bodies(raw_schema["paths"])
    for name, schema in schemas.items():
        if name in asked:
            continue
        if name in parts:
            for value in schema.get("properties", {}).values():
                close(value)
        else:
            close(schema)
