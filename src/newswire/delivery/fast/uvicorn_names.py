"""The names of uvicorn's that newswire's protocol relies on and that are not public; checked when it is imported.

A version of uvicorn that has renamed one of them then costs the direct path, with a warning, and no request.
"""

from __future__ import annotations

import dis
from types import FunctionType
from typing import Any, Final

_METHODS: Final = """
    _unset_keepalive_if_required connection_lost connection_made data_received on_body on_headers_complete
    on_message_begin on_message_complete on_response_complete pause_writing resume_writing send_400_response shutdown
    timeout_keep_alive_handler
"""
_ATTRIBUTES: Final = """
    access_log app cycle expect_100_continue flow headers limit_concurrency loop parser pipeline scope server
    server_state tasks timeout_keep_alive timeout_keep_alive_task transport
"""
_OF_A_CYCLE: Final = """
    access_log body chunked_encoding default_headers disconnected expected_content_length keep_alive message_event
    more_body on_response response_complete response_started scope transport
    waiting_for_100_continue
"""


def missing(module: Any) -> list[str]:
    """What of it uvicorn does not have.

    Args:
        module: `uvicorn.protocols.http.httptools_impl`.
    """
    names = ("HttpToolsProtocol", "RequestResponseCycle", "FlowControl", "ServerState")
    protocol, cycle, flow, state = (getattr(module, name, object) for name in names)
    return [
        *_without(protocol, _METHODS),
        *_without(cycle, "send receive"),
        *_without(flow, "pause_reading resume_reading resume_writing"),
        *_not_set_by(protocol, "__init__", _ATTRIBUTES),
        *_not_set_by(protocol, "on_message_begin", "expect_100_continue headers scope url"),
        *_not_set_by(cycle, "__init__", _OF_A_CYCLE),
        *_not_set_by(flow, "__init__", "write_paused"),
        *_not_set_by(state, "__init__", "total_requests"),
    ]


def _without(kind: type, names: str) -> list[str]:
    """The methods that a class does not have."""
    return [name for name in names.split() if not callable(getattr(kind, name, None))]


def _not_set_by(kind: type, method: str, names: str) -> list[str]:
    """The attributes that a method does not set."""
    function = getattr(kind, method, None)
    steps = dis.get_instructions(function) if isinstance(function, FunctionType) else ()
    found = {step.argval for step in steps if step.opname == "STORE_ATTR"}
    return [name for name in names.split() if name not in found]
