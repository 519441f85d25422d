"""An MCP server of the Python SDK, which speaks both eras. usage: server.py PORT"""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("peer")


@server.tool()
def echo(message: str) -> str:
    """Says back what it is told."""
    return message


@server.tool()
def delete_file(path: str) -> str:
    """Deletes a file."""
    return f"{path} is gone"


if __name__ == "__main__":
    server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
