"""OpenAI's responses in the background: the stream breaks, the answer doesn't; it goes on behind the last event."""

import os
import sys
from collections.abc import Iterator

from newswire.client import EventSource, Options
from newswire.errors import NotResumable

ENDS = ("response.completed", "response.incomplete", "response.failed")


def respond(
    prompt: str, *, base: str = "https://api.openai.com/v1", key: str, options: Options | None = None
) -> Iterator[str]:
    """The answer, piece by piece, over any number of connections."""
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "gpt-5-mini", "input": prompt, "stream": True, "background": True}
    answer, seen = "", -1

    def where() -> str:  # their cursor is in the URL: OpenAI sends no ids
        return f"{base}/responses/{answer}?stream=true&starting_after={seen}"

    source = EventSource(f"{base}/responses", body=body, headers=headers, options=options)
    while True:
        with source:
            try:
                for event in source:
                    said = event.json()
                    seen = said["sequence_number"]
                    if event.event == "response.created":
                        answer = said["response"]["id"]
                    elif event.event == "response.output_text.delta":
                        yield said["delta"]
                    elif event.event in ENDS:
                        return
            except NotResumable:
                if not answer:
                    raise
        source = EventSource(where, headers=headers, options=options)


if __name__ == "__main__":
    for piece in respond(" ".join(sys.argv[1:]), key=os.environ["OPENAI_API_KEY"]):
        print(piece, end="", flush=True)
