"""Whose a run is: owners and the public, names that are each owner's own, and ids that no one can guess."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.suite.base import words

from newswire import Hub
from newswire.errors import InvalidEvent, RunNotFound
from newswire.log.memory import MemoryLog
from newswire.log.retention import Retention
from newswire.runs import ANYONE, End, RunOptions, Runs
from newswire.runs.store.record import SECRET, is_id, new_id

pytestmark = pytest.mark.anyio


async def test_a_start_says_whose_the_run_is() -> None:
    """Nothing is public in silence: a start names an owner, or says public; an owner is a text that is not empty."""
    async with Hub() as hub, Runs(hub) as runs, Runs(hub, public=True) as public:
        missing: Any = None
        for owner in ({}, {"owner": missing}):
            with pytest.raises(TypeError, match="public=True"):
                await runs.start("chat", words(1), **owner)
            assert (await (await public.start("chat", words(1), **owner)).wait()).reason == "done"
        assert (await (await runs.start("chat", words(1), public=True)).wait()).reason == "done"
        for each in (runs, public):
            with pytest.raises(TypeError, match="not both"):
                await each.start("chat", words(1), owner="ada", public=True)
            with pytest.raises(TypeError, match="str"):
                await each.start("chat", words(1), owner=42)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="empty"):
                await each.start("chat", words(1), owner="")
            with pytest.raises(TypeError, match="key"):
                await each.start("chat", words(1), owner="ada", key=7)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"JSON.* meta\.share is nan"):
                await each.start("chat", words(1), owner="ada", meta={"share": float("nan")})
            with pytest.raises(ValueError, match=r"JSON.* args\.tasks\[0\]: object has no form"):
                await each.start("chat", words(1), owner="ada", args={"tasks": [object()]})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"public": "no"}, "public is True or False, not 'no'"),
        ({"source": "text"}, "a run's source is an iterable of parts, not one str: wrap it in a list"),
        ({"source": 3}, "a run's source is an iterable, something to await, or a callable, not int"),
        ({"args": "x"}, "args is a mapping of names to values, not 'x'"),
        ({"args": {1: 2}}, "args is a mapping of names to values, not {1: 2}"),
        ({"meta": 3}, "meta is a mapping of names to values, not 3"),
        ({"options": {"timeout": 3}}, "options is a RunOptions, not {'timeout': 3}"),
        ({"instead_of": "chat.1"}, "instead_of is a Run, not 'chat.1'"),
    ],
)
async def test_a_start_refuses_other_kinds(given: dict[str, Any], text: str) -> None:
    """Each argument by its name, before anything is stored; a text is no flag, and makes no run public."""
    async with Hub() as hub, Runs(hub) as runs:
        arguments: dict[str, Any] = {"source": ["a"], "public": True, **given}
        with pytest.raises((TypeError, ValueError)) as caught:
            await runs.start("chat", **arguments)
        assert str(caught.value) == text
        assert runs.stats.started == 0


async def test_which_run() -> None:
    """A run is found by texts; what is none is named, in each call that finds runs."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        run: Any = await runs.start("chat", ["a"])
        for call in (runs.get, runs.stop, runs.attach):
            with pytest.raises(TypeError, match="a run's id is a str, not <Run chat"):
                await call(run)
            with pytest.raises(TypeError, match="name is a str, not 3"):
                await call(name=3)  # type: ignore[arg-type]
        for find in (runs.get, runs.stop, runs.attach, partial(runs.response, None)):
            with pytest.raises(TypeError, match=r"an owner is a str, such as str\(user\.id\), not int"):
                await find("chat.1", owner=42)  # type: ignore[operator]
        with pytest.raises(TypeError, match="a run's id is a str, not 3"):
            runs.response(None, 3)  # type: ignore[arg-type]
        for request in (run, run.id):
            with pytest.raises(TypeError, match="the request comes first"):
                runs.response(request)
        with pytest.raises(TypeError, match="run is a Run, not 'chat"):
            runs.accepted(None, run.id)
        for call in (runs.sync.wait, runs.sync.text):
            with pytest.raises(TypeError, match="run is a Run, not 'chat"):
                call(run.id)
        with pytest.raises(ValueError, match="active is True or False, not 'no'"):
            runs.response(None, run, active="no")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="grace is a number of seconds, not '3'"):
            await runs.close("3")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a producer is a function, which other processes find by its name, not"):
            runs.producer(partial(print))


async def test_ends_of_another_kind() -> None:
    """A run ends as an `End` says, or fails with an exception or a text."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        waiting = await runs.start("chat")
        writer: Any = await runs.attach(waiting.id)
        for end, text in (("done", "end is an End, not 'done'"), (End("over"), "a run's end is 'done', .* not 'over'")):  # type: ignore[arg-type]
            with pytest.raises((TypeError, ValueError), match=text):
                await writer.end_with(end)
        with pytest.raises(TypeError, match="a run fails with an exception, a text or an End, not None"):
            await writer.fail(None)
        with pytest.raises(InvalidEvent, match=r"Progress\.done must be int or float, not '3'"):
            writer.progress("3")
        assert await writer.finish()


async def test_an_empty_key_is_none() -> None:
    """Requests without a key don't share a run, also where the application passes what a header has not got."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        assert (await runs.start("chat", words(1), key="")).id != (await runs.start("chat", words(1), key="")).id


async def test_a_name_is_each_owners_own() -> None:
    """Whoever starts a run under a name later, an owner finds the own newest one; so do attach, stop and the rest."""
    async with Hub() as hub, Runs(hub) as runs:
        mine = await runs.start("chat.42", owner="ada")
        for owner in ("bob", "", "ADA", "ada ", "anyone"):
            if owner:
                await runs.start("chat.42", words(1), owner=owner)
        await runs.start("chat.42", words(1), public=True)
        assert (await runs.get(name="chat.42", owner="ada")).id == mine.id
        assert (await runs.get(name="chat.42")).id != mine.id
        with pytest.raises(RunNotFound):
            await runs.get(name="chat.42", owner="eve")
        with pytest.raises(RunNotFound):
            await runs.get(mine.id, owner="bob")
        async with runs.attach(name="chat.42", owner="ada") as attached:
            attached.put("hers")
        assert attached.id == mine.id
        assert not await runs.stop(name="chat.42", owner="ada")
        assert not await asyncio.to_thread(runs.sync.stop, name="chat.42", owner="ada")
        assert (await asyncio.to_thread(runs.sync.get, name="chat.42", owner="ada")).id == mine.id


async def test_an_id_and_a_name_are_two_things() -> None:
    """Calls give one of the two; a name in the place of an id is not found, and the error says what to write."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.start("chat.42", words(1))
        calls: list[Callable[..., Any]] = [
            runs.get,
            runs.stop,
            runs.attach,
            lambda *a, **k: runs.response(None, *a, **k),
        ]
        for call in calls:
            for arguments in ((), (run.id,)):
                with pytest.raises(TypeError, match="Give its id, or name="):
                    found = call(*arguments, **({"name": "chat.42"} if arguments else {}))
                    await found
        with pytest.raises(RunNotFound, match="name="):
            await runs.get("chat.42")
        with pytest.raises(TypeError, match="ANYONE"):
            await runs.get(name="chat.42", owner=ANYONE)


async def test_a_run_that_is_named_like_an_id_is_no_other_run() -> None:
    """A name that looks like another run's id leads no reader to it."""
    async with Hub() as hub, Runs(hub) as runs:
        mine = await runs.start("chat", words(1), owner="ada", key="k")
        theirs = await runs.start(mine.id, words(1), owner="bob", key="k")
        assert theirs.id != mine.id
        assert (await runs.get(mine.id, owner="ada")).id == mine.id
        with pytest.raises(RunNotFound):
            await runs.get(mine.id, owner="bob")
        assert (await runs.get(name=mine.id, owner="bob")).id == theirs.id


async def test_ids_can_not_be_guessed(tmp_path: Path) -> None:
    """Of a public run with a simple key, what everybody can compute is not the id; yet all processes find the run."""
    url = f"sqlite:///{tmp_path}/log.db"
    async with Hub(url) as hub, Hub(url) as second, Runs(hub, public=True) as runs, Runs(second, public=True) as other:
        started = await asyncio.gather(*(each.start("chat", words(1), key="1") for each in (runs, other) * 5))
        assert len({run.id for run in started}) == 1
        [secret] = await runs.store.log.newest([SECRET])
        assert secret is not None
        guesses = {new_id("chat", None, "1", guess) for guess in (b"", b"secret", hashlib.sha256(b"").digest())}
        assert started[0].id not in guesses
        assert started[0].id == new_id("chat", None, "1", secret.data.encode())
    async with Hub(url) as again, Runs(again, public=True) as later:
        assert (await later.start("chat", words(1), key="1")).id == started[0].id
    async with Hub() as elsewhere, Runs(elsewhere, public=True) as another:
        assert (await another.start("chat", words(1), key="1")).id != started[0].id


async def test_a_secret_that_retention_removed_is_made_again() -> None:
    """A rule of the application's own that removes the secret costs what keys found; nothing hangs."""
    now = 1000.0
    log = MemoryLog(retention={"$runs.secret": Retention(max_age=5)}, clock=lambda: now)
    async with asyncio.timeout(30), Hub(log) as hub:
        async with Runs(hub, public=True) as runs:
            first = await runs.start("chat", words(1), key="1")
        now += 100
        await log.trim()
        await hub.publish("a", "b")
        async with Runs(hub, public=True) as runs:
            second = await runs.start("chat", words(1), key="1")
            assert (await second.wait()).reason == "done"
        assert first.id.startswith("chat.")


@pytest.mark.slow
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.one_of(st.none(), st.text(max_size=20)),
    st.one_of(st.none(), st.text(max_size=20)),
)
@settings(max_examples=200, deadline=None)
def test_ids_look_like_ids_and_nothing_else_does(text: str, owner: str | None, key: str | None) -> None:
    """Each id passes for one, whatever it is made of; and two owners' keys never meet."""
    made = new_id("chat.1", owner, key, b"salt")
    assert is_id(made)
    assert not is_id(text) or text[-21] == "."
    assert key is None or new_id("chat.1", f"{owner}x", key, b"salt") != made
    assert json.dumps(made)


async def test_a_start_that_is_cancelled_is_no_orphan() -> None:
    """A caller that goes away while its run is being stored leaves a run that goes on to its end."""
    async with asyncio.timeout(30), Hub() as hub, Runs(hub, public=True) as runs:
        entered, go_on = asyncio.Event(), asyncio.Event()
        store = runs.store.create

        async def slow(*arguments: Any) -> Any:
            opened = await store(*arguments)
            entered.set()
            await go_on.wait()
            return opened

        runs.store.create = slow  # type: ignore[method-assign]
        starting = asyncio.create_task(runs.start("chat", words(3), key="k", options=RunOptions(keep_for=60)))
        await entered.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        go_on.set()
        run = await runs.get(name="chat")
        assert (await run.wait()).reason == "done"


async def test_an_enum_is_the_text_that_it_is() -> None:
    """Names, owners and keys may be members of an Enum of str: they are their values, in ids and in other processes."""

    class Kind(str, Enum):  # noqa: UP042  # it writes itself as "Kind.CHAT"
        CHAT = "chat"

    async with Hub() as hub, Runs(hub) as runs:
        run = await runs.start(Kind.CHAT, words(1), owner=Kind.CHAT, key=Kind.CHAT)
        assert run.id.startswith("chat.")
        assert (await runs.start("chat", words(1), owner="chat", key="chat")).id == run.id
        assert (await runs.get(name="chat", owner="chat")).id == run.id
        assert (await runs.get(name=Kind.CHAT, owner=Kind.CHAT)).id == run.id
