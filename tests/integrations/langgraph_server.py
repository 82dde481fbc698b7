"""A server of langgraph-api whose streams are ours: python langgraph_server.py PORT. Its graph counts to three."""

import sys
from typing import Any, TypedDict

from newswire.integrations.sse_starlette import replace

replace()


class State(TypedDict):
    """What the graph works on."""

    count: int


def graph() -> Any:
    """The graph; langgraph-api calls this."""
    from langgraph.graph import END, START, StateGraph

    def step(state: State) -> State:
        return {"count": state["count"] + 1}

    builder = StateGraph(State)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if state["count"] < 3 else END)
    return builder.compile()


if __name__ == "__main__":
    from langgraph_api.cli import run_server
    from langgraph_api.sse import EventSourceResponse

    print("streams by", EventSourceResponse.__mro__[1].__module__)
    run_server("127.0.0.1", int(sys.argv[1]), graphs={"counter": f"{__file__}:graph"}, allow_blocking=True)
