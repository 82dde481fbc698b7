"""Anthropic's messages: named events, a `ping` now and then, errors inside the stream, `message_stop` as its end."""

import os
import sys
from collections.abc import Iterator

from newswire.client import EventSource


def reply(
    prompt: str, *, base: str = "https://api.anthropic.com/v1", key: str, model: str = "claude-sonnet-4-5"
) -> Iterator[str]:
    """The answer, piece by piece.

    Raises:
        RuntimeError: an `error` event, such as `overloaded_error`.
        ConnectionError: the stream ended before the answer did.
    """
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "max_tokens": 1024, "stream": True, "messages": messages}
    with EventSource(f"{base}/messages", body=body, headers=headers) as source:
        for event in source:
            match event.event:
                case "content_block_delta":
                    delta = event.json()["delta"]
                    if delta["type"] == "text_delta":
                        yield delta["text"]
                case "error":
                    raise RuntimeError(event.json()["error"]["message"])
                case "message_stop":
                    return
    raise ConnectionError("the stream ended without message_stop")


if __name__ == "__main__":
    for piece in reply(" ".join(sys.argv[1:]), key=os.environ["ANTHROPIC_API_KEY"]):
        print(piece, end="", flush=True)
