"""The names of uvicorn's that newswire's protocol relies on and that are not public; checked when it is imported.

A version of uvicorn that has renamed one of them then costs the direct path, with a warning, and no request.
"""

from __future__ import annotations

import dis
from typing import Any, Final

_METHODS: Final = """
    _unset_keepalive_if_required connection_lost connection_made data_received on_headers_complete on_message_begin
    on_message_complete on_response_complete pause_writing resume_writing send_400_response shutdown
    timeout_keep_alive_handler
"""
_ATTRIBUTES: Final = "cycle flow headers loop pipeline scope timeout_keep_alive_task transport"
_OF_A_CYCLE: Final = """
    access_log body chunked_encoding default_headers disconnected expected_content_length keep_alive message_event
    more_body on_response response_complete response_started scope waiting_for_100_continue
"""


def missing(protocol: type, cycle: type) -> list[str]:
    """What of it these classes do not have.

    Args:
        protocol: uvicorn's `HttpToolsProtocol`.
        cycle: its `RequestResponseCycle`.
    """
    found = [name for name in _METHODS.split() if not callable(getattr(protocol, name, None))]
    found += [name for name in _ATTRIBUTES.split() if name not in _set_by(protocol)]
    found += [name for name in ("send", "receive") if not callable(getattr(cycle, name, None))]
    found += [name for name in _OF_A_CYCLE.split() if name not in _set_by(cycle)]
    return found


def _set_by(kind: Any) -> set[str]:
    """The attributes that a class sets when an instance is made."""
    return {step.argval for step in dis.get_instructions(kind.__init__) if step.opname == "STORE_ATTR"}
