"""Events as values: models of every kind, and what happens to payloads that don't fit."""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, TypedDict

import pydantic
import pytest

from newswire.client import AsyncEventSource, EventSource, Hooks, Options, decode_as, typed
from newswire.errors import BadPayload, NewswireError
from newswire.testing import Answer, BadServer, FakeClock
from newswire.wire.event import Event

OVER = Answer(status=204)


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.0
    tags: list[str] = field(default_factory=list)
    color: Color | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, str] | None = None
    inner: dict[str, Point] = field(default_factory=dict)


class Row(TypedDict):
    name: str
    size: NotRequired[int]


class Model(pydantic.BaseModel):
    x: int


def values(face: Any, url: str, *arguments: Any, options: Options | None = None, **more: Any) -> list[Any]:
    options = replace(options or Options(), clock=FakeClock())
    if face.name == "sync":
        with EventSource(url, options=options) as source:
            return list(source.json(*arguments, **more))

    async def main() -> list[Any]:
        async with AsyncEventSource(url, options=options) as source:
            return [value async for value in source.json(*arguments, **more)]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("data", "model", "value"),
    [
        ('{"x": 1, "y": 2, "extra": 0}', Point, Point(1, 2.0)),
        ('{"x": 1, "tags": ["a"], "color": "red", "kind": "b"}', Point, Point(1, 0.0, ["a"], Color.RED, "b")),
        ('{"x": 1, "pair": [1, "a"], "inner": {"p": {"x": 2}}}', Point, Point(1, pair=(1, "a"), inner={"p": Point(2)})),
        ('{"name": "a"}', Row, {"name": "a"}),
        ('{"name": "a", "size": 3}', Row, {"name": "a", "size": 3}),
        ('{"x": "1"}', Model, Model(x=1)),
        ("[1, 2]", list[int], [1, 2]),
        ('{"1": "a"}', dict[int, str], {1: "a"}),
        ("null", None, None),
        ('{"a": [1.5]}', Any, {"a": [1.5]}),
    ],
)
def test_models(data: str, model: Any, value: Any) -> None:
    """Data is decoded into dataclasses, TypedDicts, pydantic models and plain types."""
    assert decode_as(Event(data), model) == value


@pytest.mark.parametrize(
    ("data", "model", "where"),
    [
        ("{", Point, "JSON"),
        ("[]", Point, r"\$: "),
        ("{}", Point, r"\$\.x: Field required"),
        ('{"x": true}', Point, r"\$\.x: "),
        ('{"x": "1"}', Point, r"\$\.x: "),
        ('{"x": 1, "tags": [1]}', Point, r"\$\.tags\[0\]"),
        ('{"x": 1, "kind": "c"}', Point, r"\$\.kind"),
        ('{"x": 1, "pair": [1]}', Point, r"\$\.pair"),
        ('{"x": 1, "inner": {"p": {}}}', Point, r"\$\.inner\.p\.x: Field required"),
        ('{"size": 3}', Row, r"\$\.name: Field required"),
        ('{"name": 1}', Row, r"\$\.name"),
        ("{}", Model, "x"),
    ],
)
def test_misfits(data: str, model: Any, where: str) -> None:
    """What doesn't fit says where, and carries the event."""
    event = Event(data, id="7")
    with pytest.raises(BadPayload, match=where) as raised:
        decode_as(event, model)
    assert raised.value.event is event
    assert raised.value.model is model


def test_one_model_for_all(face) -> None:
    """One model reads every event, whatever its type."""
    stream = b'data: {"x": 1}\n\nevent: add\ndata: {"x": 2}\n\n'
    with BadServer([Answer(stream), OVER]) as server:
        assert values(face, server.url, Point) == [Point(1), Point(2)]


def test_model_for_each_type(face) -> None:
    """A mapping gives each event type its model; types that it doesn't name are left out."""
    stream = b'event: p\ndata: {"x": 1}\n\nevent: other\ndata: ?\n\nevent: r\ndata: {"name": "a"}\n\n'
    with BadServer([Answer(stream), OVER]) as server:
        assert values(face, server.url, {"p": Point, "r": Row}) == [Point(1), {"name": "a"}]


def test_bad_payload_is_left_out(face, caplog: pytest.LogCaptureFixture) -> None:
    """A bad payload doesn't end the stream: it is left out, and the hook or else the log hears of it."""
    stream = b'data: {"x": 1}\n\nid: 7\ndata: ?\n\ndata: {"x": 2}\n\n'
    heard: list[NewswireError] = []
    with BadServer([Answer(stream), OVER, Answer(stream), OVER]) as server:
        options = Options(hooks=Hooks(bad_payload=heard.append))
        assert values(face, server.url, Point, on_bad="skip", options=options) == [Point(1), Point(2)]
        assert values(face, server.url, Point, on_bad="skip") == [Point(1), Point(2)]
    (error,) = heard
    assert isinstance(error, BadPayload)
    assert error.event.id == "7"
    assert "event 7" in caplog.text


def test_bad_payload_is_raised_and_the_stream_goes_on() -> None:
    """By default the loop ends at a bad payload, and can be taken up again behind it."""
    stream = b'data: ?\n\ndata: {"x": 2}\n\n'
    with BadServer([Answer(stream), OVER]) as server, EventSource(server.url) as source:
        points = source.json(Point)
        with pytest.raises(BadPayload):
            next(points)
        assert next(points) == Point(2)


def test_gap_is_no_model(face, caplog: pytest.LogCaptureFixture) -> None:
    """A gap is not decoded as the user's model, and not silent either; a mapping may name it."""
    stream = b'event: newswire.gap\ndata: {"reason": "trimmed"}\n\ndata: {"x": 1}\n\n'
    with BadServer([Answer(stream), OVER, Answer(stream), OVER]) as server:
        assert values(face, server.url, Point) == [Point(1)]
        assert "lost events" in caplog.text
        assert values(face, server.url, {"newswire.gap": dict}) == [{"reason": "trimmed"}]


@dataclass
class Strict:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise LookupError("x is negative")


class Picky(pydantic.BaseModel):
    x: int

    @pydantic.field_validator("x")
    @classmethod
    def check(cls, x: int) -> int:
        if x < 0:
            raise LookupError("x is negative")
        return x


@dataclass
class Holder:
    inner: Model | None = None
    strict: Strict | str = ""


DEEP = "[" * 100_000 + "]" * 100_000
NESTED = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (DEEP, None),
        (DEEP, Any),
        (DEEP, Point),
        (DEEP, Model),
        ('{"x": 1, "inner": ' + '{"a": {"x": 1, "inner": ' * 2000 + "{}" + "}}" * 2000 + "}", Point),
        (NESTED, int),
        ('{"x": -1}', Strict),
        ('{"x": -1}', Picky),
        ('{"strict": {"x": -1}}', Holder),
        ('{"inner": {"x": "?"}}', Holder),
        ("[[1]]", set[list[int]]),
        ("[{}]", frozenset[dict[str, int]]),
        ("[[1]]", set),
        ("[1]", Color),
        ("{}", Literal["a"]),
        ("[]", str | None),
    ],
)
def test_every_bad_payload_is_one(face, data: str, model: Any) -> None:
    """Whatever is wrong with it: depth, what can't be hashed, what the model's code raises. None ends the stream."""
    heard: list[NewswireError] = []
    stream = f"data: {data}\n\ndata: 7\n\n".encode()
    with BadServer([Answer(stream), OVER, Answer(b"event: x\ndata: 7\n\n" + stream), OVER]) as server:
        options = Options(hooks=Hooks(bad_payload=heard.append))
        values(face, server.url, model, on_bad="skip", options=options)
        if model is not None:
            assert isinstance(heard[0], BadPayload)
            assert heard[0].event.data == data
        with pytest.raises(BadPayload):
            values(face, server.url, {"message": model})


def test_a_field_may_be_a_pydantic_model() -> None:
    """Inside of a dataclass, and beside others."""
    assert decode_as(Event('{"inner": {"x": 1}, "strict": {"x": 2}}'), Holder) == Holder(Model(x=1), Strict(2))


class Unknown:
    pass


@dataclass
class WithUnknown:
    inner: list[dict[str, Unknown | None]]


@dataclass
class WithUnresolved:
    inner: Nowhere  # type: ignore[name-defined]  # noqa: F821


class RowWithUnknown(TypedDict):
    inner: Unknown


@pytest.mark.parametrize(
    "model",
    [Unknown, WithUnknown, WithUnresolved, RowWithUnknown, Point(1), list[Unknown], "Point", 7],
)
def test_what_is_no_model_raises_at_once(face, model: Any) -> None:
    """When `json` is called, not at the first event; the server gets no request."""
    kind = EventSource if face.name == "sync" else AsyncEventSource
    source = kind("http://127.0.0.1:9/")
    for models in (model, {"a": Point, "b": model}):
        with pytest.raises(TypeError):
            source.json(models)
    with pytest.raises(ValueError, match="on_bad"):
        source.json(Point, on_bad="ignore")  # type: ignore[arg-type]
    source.close()


@pytest.mark.parametrize(
    "model",
    [
        *(None, Any, int, str | None, Point, Row, Model, Holder, Color, list[Point], tuple[int, ...], tuple[int, str]),
        *(dict[str, Point], dict[Literal["a", "b"], int], set[str], Literal[1, "a"], list, dict, object, bytes),
    ],
)
def test_what_is_a_model_is_taken(model: Any) -> None:
    """Every type that values can be read into, one that has itself in it too."""
    with EventSource("http://127.0.0.1:9/") as source:
        source.json(model)


# -- without pydantic


@pytest.fixture
def no_pydantic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if pydantic was not installed."""
    typed._cached_converter.cache_clear()
    monkeypatch.setitem(sys.modules, "pydantic", None)
    yield
    typed._cached_converter.cache_clear()


@dataclass
class Plain:
    x: int
    y: float = 0.0
    tags: list[str] = field(default_factory=list)
    note: str | None = None
    inner: dict[str, Plain] = field(default_factory=dict)
    any: Any = None


@pytest.mark.usefixtures("no_pydantic")
@pytest.mark.parametrize(
    ("data", "model", "value"),
    [
        ('{"x": 1, "y": 2, "extra": 0}', Plain, Plain(1, 2.0)),
        ('{"x": 1, "tags": ["a"], "note": "n"}', Plain, Plain(1, 0.0, ["a"], "n")),
        (
            '{"x": 1, "inner": {"p": {"x": 2, "note": null}}, "any": [1]}',
            Plain,
            Plain(1, inner={"p": Plain(2)}, any=[1]),
        ),
        ("[1, 2]", list[int], [1, 2]),
        ("[1]", list, [1]),
        ("null", None, None),
        ('{"a": [1.5]}', Any, {"a": [1.5]}),
    ],
)
def test_plain_models_need_no_pydantic(data: str, model: Any, value: Any) -> None:
    """Dataclasses of plain fields, and JSON's own types, are read without pydantic."""
    assert decode_as(Event(data), model) == value


@pytest.mark.usefixtures("no_pydantic")
@pytest.mark.parametrize(
    ("data", "model", "where"),
    [
        ("{", Plain, "Expecting property name"),
        ("[]", Plain, r"\$ is '\[\]', not Plain"),
        ("{}", Plain, r"\$\.x is missing"),
        ('{"x": true}', Plain, r"\$\.x is 'True', not int"),
        ('{"x": "1"}', Plain, r"\$\.x is '1', not int"),
        ('{"x": 1, "tags": [1]}', Plain, r"\$\.tags\[0\]"),
        ('{"x": 1, "note": 1}', Plain, r"\$\.note"),
        ('{"x": 1, "inner": {"p": {}}}', Plain, r"\$\.inner\.p\.x is missing"),
        ('{"x": -1}', Strict, "x is negative"),
        (DEEP, Plain, "nested too deeply"),
        (DEEP, None, "nested too deeply"),
        ('{"x": 1, "any": ' + DEEP + "}", Plain, "nested too deeply"),
    ],
)
def test_misfits_without_pydantic(data: str, model: Any, where: str) -> None:
    """What doesn't fit says where, without pydantic too."""
    with pytest.raises(BadPayload, match=where):
        decode_as(Event(data), model)


@pytest.mark.usefixtures("no_pydantic")
@pytest.mark.parametrize("model", [Unknown, WithUnknown, WithUnresolved, Plain(1), Color, Row, tuple[int], set[str], 7])
def test_what_needs_pydantic_raises_at_once(model: Any) -> None:
    """A type that only pydantic can read raises when `json` is called."""
    with (
        EventSource("http://127.0.0.1:9/") as source,
        pytest.raises(TypeError, match=r"pydantic|resolved|the type itself"),
    ):
        source.json(model)


@pytest.mark.parametrize("data", ['{"a": "%s"}', "%s"])
def test_no_text_of_a_server_steers_a_terminal(data: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not through what a bad payload says, nor through a line of the log; it stays on one line."""
    evil = "\x1b[2J\x9b31m\u202e"
    bad = Event(data % evil, f"x{evil}", f"1{evil}")
    with pytest.raises(BadPayload) as caught:
        decode_as(bad, int)
    reader = typed.TypedReader(int, "skip", None)
    for event in (bad, Event(f'{{"reason": "{evil}"}}', "newswire.gap")):
        reader.read(event)
    assert len(caplog.messages) == 2
    for text in (str(caught.value), *caplog.messages):
        assert text.isprintable()
        assert "\\x1b" in text
    assert caught.value.event == bad
