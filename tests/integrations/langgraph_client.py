"""langgraph-api's own client: python langgraph_client.py URL. Prints what it saw of a run, and after a resume."""

import asyncio
import sys

from langgraph_sdk import get_client


async def main(url: str) -> None:
    client = get_client(url=url)
    async for part in client.runs.stream(None, "counter", input={"count": 0}, stream_mode="updates"):
        if part.event == "updates":
            print("streamed", part.data["step"]["count"])
    thread = (await client.threads.create())["thread_id"]
    begun = await client.runs.create(
        thread, "counter", input={"count": 0}, stream_mode="updates", stream_resumable=True
    )
    run = begun["run_id"]
    seen = [part async for part in client.runs.join_stream(thread, run, stream_mode="updates", last_event_id="-1")]
    print("joined", [part.data["step"]["count"] for part in seen])
    async for part in client.runs.join_stream(thread, run, stream_mode="updates", last_event_id=seen[0].id):
        print("resumed", part.data["step"]["count"])


asyncio.run(main(sys.argv[1]))
