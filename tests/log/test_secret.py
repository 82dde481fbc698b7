"""A secret that processes share through the log, also after the log has lost it."""

from __future__ import annotations

import pytest
from tests.fixtures.engines import Valkey

from newswire.log.open import open_log
from newswire.log.position import Lives
from newswire.log.secret import SharedSecret
from newswire.testing.log_base import opened

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("newcomer", [False, True])
async def test_all_have_the_same_after_a_wipe(newcomer: bool) -> None:
    """Those who knew it store it again, unless a process that never knew it was faster; then they take that one's."""
    with Valkey() as server:
        async with opened(open_log(server.url)) as one, opened(open_log(server.url)) as other:
            now = (await one.span()).lives
            known = [SharedSecret(log, "$secret", lambda: now) for log in (one, other)]
            first, second = [await secret.get() for secret in known]
            assert first == second
            server.ask("FLUSHALL")
            now = (await one.span()).lives
            assert [secret.known for secret in known] == [None, None]
            fresh = SharedSecret(one, "$secret", lambda: Lives.single(""))
            order = [fresh, *known] if newcomer else [*known, fresh]
            found = [await secret.get() for secret in order]
            assert len(set(found)) == 1
            assert (found[0] == first) is not newcomer
            assert [secret.known for secret in order] == found
