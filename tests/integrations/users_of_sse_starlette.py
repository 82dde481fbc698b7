"""Libraries that import sse_starlette themselves, on ours: their own servers, read by their own clients.

    python users_of_sse_starlette.py mcp | a2a

A process of its own: `replace()` comes before everything else.
"""

import asyncio
import sys
from typing import Any

from newswire.integrations.sse_starlette import replace

replace()

import uvicorn  # noqa: E402


async def serve(app: Any) -> tuple[uvicorn.Server, asyncio.Task[None], str]:
    """Start an application on a free port. Returns the server, its task and its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    return server, running, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


async def mcp() -> list[object]:
    """A tool reports its progress over the stream of its call."""
    from mcp import Client
    from mcp.server import MCPServer
    from mcp.server import streamable_http as transport
    from mcp.server.mcpserver import Context

    tools = MCPServer("tools")

    @tools.tool()
    async def count(to: int, context: Context) -> str:
        """Count."""
        for number in range(to):
            await context.report_progress(number, to)
            await asyncio.sleep(0.01)
        return "done"

    seen: list[object] = [transport.EventSourceResponse.__module__]

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    server, running, url = await serve(tools.streamable_http_app())
    async with Client(f"{url}/mcp") as client:
        result = await client.call_tool("count", {"to": 3}, progress_callback=progress)
    seen.append(getattr(result.content[0], "text", None))
    server.should_exit = True
    await running
    return seen


async def a2a() -> list[object]:
    """An agent's task streams its updates, and ends."""
    import httpx
    from a2a.client import ClientConfig, create_client
    from a2a.helpers import proto_helpers as make
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.request_handlers import DefaultRequestHandler
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, jsonrpc_dispatcher
    from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Role, SendMessageRequest
    from starlette.applications import Starlette

    class Counting(AgentExecutor):
        async def execute(self, context: Any, event_queue: Any) -> None:
            await event_queue.enqueue_event(make.new_task_from_user_message(context.message))
            updater = TaskUpdater(event_queue, context.task_id, context.context_id)
            await updater.start_work()
            for number in range(3):
                await updater.add_artifact([make.new_text_part(str(number))], artifact_id=str(number))
            await updater.complete()

        async def cancel(self, context: Any, event_queue: Any) -> None: ...

    app = Starlette()
    server, running, url = await serve(app)
    card = AgentCard(
        name="counter",
        description="counts",
        version="1",
        supported_interfaces=[AgentInterface(protocol_binding="JSONRPC", protocol_version="1.0", url=f"{url}/rpc")],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text"],
        default_output_modes=["text"],
        skills=[],
    )
    handler = DefaultRequestHandler(Counting(), InMemoryTaskStore(), card)
    app.routes.extend([*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/rpc")])
    seen: list[object] = [jsonrpc_dispatcher.EventSourceResponse.__module__]
    async with httpx.AsyncClient() as http:
        client = await create_client(url, ClientConfig(httpx_client=http, streaming=True))
        request = SendMessageRequest(message=make.new_text_message("count", role=Role.ROLE_USER))
        async for update in client.send_message(request):
            kind = update.WhichOneof("payload")
            seen.append(update.artifact_update.artifact.artifact_id if kind == "artifact_update" else kind)
    server.should_exit = True
    await running
    return seen


if __name__ == "__main__":
    print(asyncio.run({"mcp": mcp, "a2a": a2a}[sys.argv[1]]()))
