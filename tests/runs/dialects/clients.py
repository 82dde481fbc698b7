"""The official Python clients, each pointed at one stream after the other, reading it by its own accumulator.

Each takes a second to import, so it is imported where it is used: every test process collects every file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from tests.runs.dialects.conftest import Streams

TOOLS: Final = ("weather", "confirm", "now", "näme")


class Client(Protocol):
    """What these have in common."""

    def __init__(self, streams: Streams) -> None: ...

    def final(self, body: bytes) -> dict[str, Any]:
        """What the client holds after a stream."""
        ...

    def close(self) -> None: ...


class ChatClient:
    """OpenAI's client of chat completions."""

    # Strict tools make the client parse each call's arguments as soon as it takes the call for finished.
    _TOOLS: Final[Any] = [
        {"type": "function", "function": {"name": name, "strict": True, "parameters": {"type": "object"}}}
        for name in TOOLS
    ]

    def __init__(self, streams: Streams) -> None:
        import openai

        self._streams = streams
        self._openai = openai.OpenAI(api_key="none", base_url="http://127.0.0.1", max_retries=0)

    def final(self, body: bytes) -> dict[str, Any]:
        """The completion."""
        client = self._openai.with_options(base_url=self._streams.serve(body))
        with client.chat.completions.stream(model="m", messages=[], tools=self._TOOLS) as stream:
            stream.until_done()
            final: dict[str, Any] = stream.get_final_completion().model_dump()
        return final

    def close(self) -> None:
        """Close its connections."""
        self._openai.close()


class ResponsesClient:
    """OpenAI's client of responses."""

    _TOOLS: Final[Any] = [
        {"type": "function", "name": name, "strict": True, "parameters": {"type": "object"}} for name in TOOLS
    ]

    def __init__(self, streams: Streams) -> None:
        import openai

        self._streams = streams
        self._openai = openai.OpenAI(api_key="none", base_url="http://127.0.0.1", max_retries=0)

    def final(self, body: bytes) -> dict[str, Any]:
        """The response that the last event brings, and what the accumulator made of the deltas before, as `said`."""
        client = self._openai.with_options(base_url=self._streams.serve(body))
        said: dict[int, str] = {}
        numbers: list[int] = []
        with client.responses.stream(model="m", input="", tools=self._TOOLS) as stream:
            for event in stream:
                numbers.append(event.sequence_number)
                if event.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                    said[event.output_index] = event.snapshot
            final: dict[str, Any] = stream.get_final_response().model_dump()
        assert numbers == sorted(set(numbers))
        return {**final, "said": said}

    def events(self, body: bytes) -> list[Any]:
        """The events, without an accumulator."""
        client = self._openai.with_options(base_url=self._streams.serve(body))
        with client.responses.create(model="m", input="", stream=True) as stream:
            return list(stream)

    def close(self) -> None:
        """Close its connections."""
        self._openai.close()


class AnthropicClient:
    """Anthropic's client of messages."""

    def __init__(self, streams: Streams) -> None:
        import anthropic

        self._streams = streams
        self._anthropic = anthropic.Anthropic(api_key="none", base_url="http://127.0.0.1", max_retries=0)

    def final(self, body: bytes) -> dict[str, Any]:
        """The message."""
        client = self._anthropic.with_options(base_url=self._streams.serve(body))
        with client.messages.stream(model="m", messages=[], max_tokens=9) as stream:
            final: dict[str, Any] = stream.get_final_message().model_dump()
        return final

    def close(self) -> None:
        """Close its connections."""
        self._anthropic.close()


CLIENTS: Final[Mapping[str, type[Client]]] = MappingProxyType(
    {"openai-chat": ChatClient, "openai-responses": ResponsesClient, "anthropic": AnthropicClient}
)
