"""OpenAI's chat completions: a POST whose stream has no ids, so it is never sent twice; `[DONE]` is its end."""

import os
import sys
from collections.abc import Iterator

from newswire.client import EventSource


def complete(
    prompt: str, *, base: str = "https://api.openai.com/v1", key: str, model: str = "gpt-5-mini"
) -> Iterator[str]:
    """The answer, piece by piece.

    Raises:
        NotResumable: the connection broke. What came so far is all there is; asking again starts a new answer.
        ConnectionError: the stream ended before the answer did.
    """
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    headers = {"authorization": f"Bearer {key}"}
    with EventSource(f"{base}/chat/completions", body=body, headers=headers) as source:
        for event in source:
            if event.data == "[DONE]":
                return
            for choice in event.json()["choices"]:  # empty in the chunk that counts tokens
                if text := choice["delta"].get("content"):
                    yield text
    raise ConnectionError("the stream ended without [DONE]")


if __name__ == "__main__":
    for piece in complete(" ".join(sys.argv[1:]), key=os.environ["OPENAI_API_KEY"]):
        print(piece, end="", flush=True)
