"""The model that other tests have as an upstream."""

from __future__ import annotations

import httpx2
import pytest
from tests.fixtures.llm import LLM


@pytest.mark.slow
def test_the_model_says_the_same_each_time(llm: LLM) -> None:
    """At temperature 0, so that an answer through something can be compared with the direct one."""
    body = {"messages": [{"role": "user", "content": "Name a colour."}], "temperature": 0, "max_tokens": 12}
    answers = {
        httpx2.post(f"{llm.url}/v1/chat/completions", json=body, timeout=60).text.split('"created"')[0] for _ in "ab"
    }
    [answer] = answers
    assert '"content":"' in answer
