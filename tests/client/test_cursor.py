"""The cursor store: what is saved when, and how a process that starts again goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from newswire.client import AsyncEventSource, CursorFile, EventSource, Options
from newswire.testing import Answer, BadServer, FakeClock

TWO = b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n"
OVER = Answer(status=204)


def test_restarted_process_goes_on(face, tmp_path: Path) -> None:
    """A source with a cursor file begins where the one before it ended."""
    path = tmp_path / "cursor"
    with BadServer([Answer(TWO, end="hang"), Answer("id: ü\ndata: c\n\n".encode()), OVER]) as server:
        face.read(server.url, cursor=path, stop_after=2)
        assert path.read_text("utf-8") == "2\n"
        face.read(server.url, cursor=path)
    assert server.requests[1].headers["last-event-id"] == b"2"
    assert CursorFile(path).load() == "ü"
    assert [each.name for each in tmp_path.iterdir()] == ["cursor"]


def test_event_that_failed_is_not_saved(tmp_path: Path) -> None:
    """An event whose handling raised comes again: its id is not saved, that of the one before it is."""
    path = tmp_path / "cursor"

    def handle() -> None:
        with EventSource(server.url, cursor=path) as source:
            for event in source:
                if event.data == "b":
                    raise RuntimeError("no")

    with BadServer([Answer(TWO, end="hang")]) as server, pytest.raises(RuntimeError):
        handle()
    assert path.read_text("utf-8") == "1\n"


def test_id_alone_is_saved(face, tmp_path: Path) -> None:
    """A block with nothing but an id moves the cursor, as the standard has it."""
    path = tmp_path / "cursor"
    with BadServer([Answer(b"id: 5\n\n"), OVER]) as server:
        face.read(server.url, cursor=path)
    assert path.read_text("utf-8") == "5\n"


def test_function_is_called_with_each_id(face) -> None:
    """A function for a cursor is called once for each event that was handled."""
    saved: list[str] = []
    with BadServer([Answer(TWO), OVER]) as server:
        face.read(server.url, cursor=saved.append)
    assert saved == ["1", "2"]


def test_coroutine_function_is_refused_by_the_sync_source() -> None:
    """A sync source says that it can't await, rather than to save nothing."""

    class Store:
        def load(self) -> str:
            return ""

        def save(self, id: str) -> object:
            return object()

        def flush(self) -> None:
            pass

    def read() -> None:
        with EventSource(server.url, cursor=Store()) as source:
            list(source)

    with BadServer([Answer(TWO), OVER]) as server, pytest.raises(TypeError, match="AsyncEventSource"):
        read()


@pytest.mark.anyio
async def test_coroutine_function_is_awaited() -> None:
    """An async source awaits its cursor store."""
    saved: list[str] = []

    async def save(id: str) -> None:
        saved.append(id)

    with BadServer([Answer(TWO), OVER]) as server:
        async with AsyncEventSource(server.url, cursor=save, options=Options(clock=FakeClock())) as source:
            async for _ in source:
                pass
    assert saved == ["1", "2"]


@pytest.mark.anyio
async def test_a_save_that_was_cancelled_is_made_again() -> None:
    """A wait that is cancelled while the store saves loses no id."""
    saved: list[str] = []
    stuck = asyncio.Event()

    async def save(id: str) -> None:
        saved.append(id)
        if len(saved) == 1:
            await stuck.wait()

    with BadServer([Answer(TWO, end="hang")]) as server:
        async with AsyncEventSource(server.url, cursor=save) as source:
            assert (await anext(source)).data == "a"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(source), 0.02)
            assert (await anext(source)).data == "b"
    assert saved == ["1", "1", "2"]


def test_a_save_that_failed_is_made_again() -> None:
    """A loop that goes on after the store's error saves the id then."""
    saved: list[str] = []

    def save(id: str) -> None:
        saved.append(id)
        if len(saved) == 1:
            raise OSError("no room")

    with BadServer([Answer(TWO, end="hang")]) as server, EventSource(server.url, cursor=save) as source:
        assert next(source).data == "a"
        with pytest.raises(OSError, match="no room"):
            next(source)
        assert next(source).data == "b"
    assert saved == ["1", "1", "2"]


def test_interval_holds_back_and_flush_writes(tmp_path: Path) -> None:
    """With an interval only the first save is written at once; what is held back is written in the end."""
    store = CursorFile(tmp_path / "cursor", interval=3600)
    store.save("1")
    store.save("2")
    assert store.load() == "1"
    store.flush()
    assert store.load() == "2"


def test_an_event_that_is_handled_while_the_source_closes_is_saved(face, tmp_path: Path) -> None:
    """Also if the file is written seldom: the loop's last event is not held back for ever."""
    file = CursorFile(tmp_path / "cursor", interval=3600)
    with BadServer([Answer(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", end="hang")]) as server:

        async def read() -> None:
            source = AsyncEventSource(server.url, cursor=file)
            async for event in source:
                if event.data == "b":
                    await source.aclose()

        if face.name == "async":
            asyncio.run(read())
        else:
            source = EventSource(server.url, cursor=file)
            for event in source:
                if event.data == "b":
                    source.close()
    assert file.load() == "2"


def test_a_file_that_is_no_cursors(face, tmp_path: Path) -> None:
    """It is named before anything is read, with what to do; and so is a folder that is not there."""
    path = tmp_path / "cursor"
    path.write_bytes(b"\x80\xff")
    with BadServer([Answer(TWO, end="hang")]) as server:
        with pytest.raises(ValueError, match=f"{path} is no file of a cursor"):
            face.read(server.url, cursor=path, stop_after=1)
        with pytest.raises(FileNotFoundError, match="no such folder") as caught:
            face.read(server.url, cursor=tmp_path / "none" / "cursor", stop_after=1)
        assert caught.value.filename == str(tmp_path / "none")
    assert path.read_bytes() == b"\x80\xff"


def test_a_file_that_can_not_be_written(face, tmp_path: Path) -> None:
    """The error names this file, not one that is written beside it first."""
    path = tmp_path / ("c" * 250)
    with BadServer([Answer(TWO, end="hang")]) as server, pytest.raises(OSError, match="too long") as caught:
        face.read(server.url, cursor=path, stop_after=1)
    assert (caught.value.filename, caught.value.filename2) == (str(path), None)


class Row:
    """A store that keeps what a database made of the ID."""

    def __init__(self, kept: object) -> None:
        self.kept = kept

    def load(self) -> object:
        return self.kept

    def save(self, id: str) -> None:
        self.kept = id

    def flush(self) -> None:
        """Nothing is left to write."""


@pytest.mark.parametrize("make", [EventSource, AsyncEventSource])
def test_what_a_store_has_is_a_text(make: type[Any]) -> None:
    """None is the beginning; anything else is refused where the source is made, as is what is no store."""
    make("http://127.0.0.1:9/", cursor=Row("5")).close()
    source = make("http://127.0.0.1:9/", cursor=Row(None))
    assert source.last_event_id == ""
    source.close()
    for kept in (5, b"5"):
        with pytest.raises(TypeError, match=f"what CursorStore.load returns is a str, not {kept!r}"):
            make("http://127.0.0.1:9/", cursor=Row(kept))
    with pytest.raises(
        TypeError, match="cursor is a path, a CursorStore or a function that gets each ID, not the class Row"
    ):
        make("http://127.0.0.1:9/", cursor=Row)
