"""A page whose token is good no longer, in a real Chromium: `headers` gives the next one, and no event is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.serve import Serve
from tests.server.auth.conftest import SECRET, bearer, publish

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

OPEN = """import('/newswire.js').then(({ connect }) => {
  Object.assign(globalThis, { seen: [], errors: [], token: "%s" });
  globalThis.source = connect("/channels/room.1", {
    shared: %s,
    headers: () => ({ authorization: token }),
    onError(error, wait) {
      errors.push([error.status, wait !== null]);
      token = "%s";
    },
  });
  source.on("*", ({ data }) => seen.push(data));
})"""


@pytest.mark.parametrize("shared", ["true", "false"])
def test_the_next_token_goes_on(tmp_path: Path, page: Any, shared: str) -> None:
    """The first is revoked: its stream ends, the reconnect gets a 401, and what `headers` gives after it goes on."""
    first, second = (
        bearer("ada", subscribe=[">"], more={"jti": name})["authorization"] for name in ("the-first", "the-second")
    )
    tabs = [page, page.second()] if shared == "true" else [page]
    with Serve(tmp_path, "--jwt-secret", SECRET, "--retry", "50") as server:
        for tab in tabs:
            tab.order(goto=f"{server.url}/health/live")
            tab.evaluate(OPEN % (first, shared, second))
            tab.until("source.state === 'open'")
        publish(server, "room.1", "one")
        for tab in tabs:
            tab.until("seen.length === 1")
        revoked = httpx2.post(f"{server.url}/revoke", json={"token": "the-first"}, headers=bearer("root", admin=True))
        assert revoked.status_code == 200
        publish(server, "room.1", "two")
        for tab in tabs:
            tab.until("seen.length === 2")
            assert tab.evaluate("[seen, errors, source.state]") == [["one", "two"], [[401, True]], "open"]
