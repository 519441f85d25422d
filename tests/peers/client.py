"""The Python SDK's client through docket, in both eras. usage: client.py DATA_URL ADMIN_URL TOKEN"""

import asyncio
import json
import sys
import urllib.request

from mcp.client import Client

data, admin, token = sys.argv[1:4]


def explain(request_id: str) -> dict:
    request = urllib.request.Request(f"{admin}/v1/explain/{request_id}", headers={"Authorization": f"Bearer {token}"})
    return json.load(urllib.request.urlopen(request))


async def session(server: str, mode: str, forbidden: bool) -> None:
    async with Client(f"{data}/mcp/{server}", mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        assert "echo" in tools, tools
        echoed = await client.call_tool("echo", {"message": "hi"})
        assert not echoed.is_error and "hi" in echoed.content[0].text, echoed
        if forbidden:
            refused = await client.call_tool("delete_file", {"path": "/etc/passwd"})
            assert refused.is_error, refused
            assert "`/etc/passwd` must not be deleted; archive it instead" in refused.content[0].text, refused
            request_id = refused.meta["docket/request_id"]
            entry = explain(request_id)["entries"][0]
            assert entry["decision"] == "deny" and entry["server"] == server, entry
            assert entry["determining_policies"][0]["policy_id"] == "peers.everything", entry
            assert entry["policy_set"]["manifest_sha"].startswith("sha256:"), entry
        print(f"{server} {mode}: ok, protocol {client.protocol_version}")


async def main() -> None:
    await session("python", "legacy", True)
    await session("python", "auto", True)
    await session("python", "2026-07-28", True)
    await session("everything", "legacy", False)
    await session("everything", "auto", False)


asyncio.run(main())
