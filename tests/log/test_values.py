"""Positions, channels and retention's rules: the values that every log shares."""

from __future__ import annotations

import copy
import json
import pickle
from enum import Enum
from typing import Any
from urllib.parse import quote, unquote

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire import Pattern, Position, Retention
from newswire.errors import InvalidChannel, InvalidPosition
from newswire.log.channels import Channels, channel, check_channel, check_pattern, is_internal, name_or_pattern
from newswire.log.position import MAX_OFFSET, new_epoch
from newswire.log.retention import Rules


class Kind(Enum):
    ROOM = "room"
    FIRST = 1


TOKENS = st.text("abz09_-üé€", min_size=1, max_size=4)
NAMES = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)


def test_the_text_of_a_position() -> None:
    """What str gives, parse reads; positions of one epoch are in the order of the log."""
    for offset in (0, 1, 42, MAX_OFFSET):
        position = Position(new_epoch(), offset)
        assert Position.parse(str(position)) == position
    assert Position("e", 9) < Position("e", 10)


@pytest.mark.parametrize(
    "text",
    ["", "-", "e", "e-", "-1", "e--1", "e-01", "e-+1", "e- 1", "e-1 ", " e-1", "e-1\n", "E-1", "é-1", "e-1-1", "e_1",
     "e-9223372036854775808", "e-99999999999999999999", "e-١", "e-1\0", "e" * 33 + "-1", "e-1" + "0" * 10**6],
)  # fmt: skip
def test_what_is_no_position(text: str) -> None:
    """Nothing but what str gives is a position; the error repeats little of it."""
    with pytest.raises(InvalidPosition, match="is not a position") as caught:
        Position.parse(text)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_any_text(text: str) -> None:
    """Either it is the text of a position, to the letter, or it is refused."""
    try:
        assert str(Position.parse(text)) == text
    except InvalidPosition:
        pass


@pytest.mark.parametrize(("epoch", "offset"), [("e", "4"), ("e", -1), ("e", 2.5), ("e", True), (None, 4)])
def test_parts_that_make_no_position(epoch: Any, offset: Any) -> None:
    """They would make a text that no log reads."""
    with pytest.raises(InvalidPosition, match="an epoch and an offset make a position, not"):
        Position(epoch, offset)


def test_epochs_differ() -> None:
    """A thousand logs, a thousand names, each a text that ids can have."""
    epochs = {new_epoch() for _ in range(1000)}
    assert len(epochs) == 1000
    assert all(epoch.isalnum() and epoch.isascii() and len(epoch) == 8 for epoch in epochs)


@pytest.mark.parametrize(
    "name", ["a", "a.b", "news", "orders.eu.42", "ü", "👍", "a-b_c:d@e", "0", "a" * 255, "ü" * 127]
)
def test_names(name: str) -> None:
    """Any printable text without a few characters names a channel, and is its own pattern."""
    assert check_channel(name) == check_pattern(name) == name
    assert name in Channels([name])


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\nb", "a\rb", "a\0b", "a/b", "a\x7f", "a\x85b", "a\u2028b",
     "a\u00a0b", "a\ud800", "a" * 256, "ü" * 128, None, 1, b"a"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    """Neither a channel nor a pattern; the error says what is wrong and repeats little."""
    for check in (check_channel, check_pattern):
        with pytest.raises(InvalidChannel) as caught:
            check(name)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "says"),
    [("a b", r"newswire\.channel\("), ("a/b", r"newswire\.channel\("), (["a", "b"], "each is an argument of its own")],
)
def test_what_to_do_about_a_bad_name(name: Any, says: str) -> None:
    """The error says it."""
    with pytest.raises(InvalidChannel, match=says):
        check_channel(name)


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "a.>", "*.b", "*.*.>", "a.*.c"])
def test_patterns(pattern: str) -> None:
    """A pattern can be subscribed to, but not published to."""
    assert check_pattern(pattern) == pattern
    with pytest.raises(InvalidChannel, match="wildcards are for subscribing"):
        check_channel(pattern)


@pytest.mark.parametrize("pattern", ["a*", "*a", "a.b*", ">.a", "a.>.b", "a>", "**", ">>", "*>", "a.*b.c"])
def test_what_is_no_pattern(pattern: str) -> None:
    """A wildcard is a whole token, and `>` the last."""
    with pytest.raises(InvalidChannel, match="must be a whole token"):
        check_pattern(pattern)


@given(NAMES, st.data())
def test_a_pattern_made_of_a_name_matches_it(name: str, data: st.DataObject) -> None:
    """Any token may be `*`, any tail `>`; one token more or less no longer matches."""
    tokens = name.split(".")
    starred = [data.draw(st.sampled_from([token, "*"])) for token in tokens]
    cut = data.draw(st.integers(0, len(tokens) - 1))
    assert name in Channels([name_or_pattern(".".join(starred))])
    assert name in Channels([Pattern(".".join([*starred[:cut], ">"]))])
    assert f"{name}.x" not in Channels([name_or_pattern(".".join(starred))])
    assert f"{name}.x" in Channels([Pattern(".".join([*starred[:cut], ">"]))])
    assert name not in Channels([Pattern(f"{name}.>")])
    assert name not in Channels([Pattern(f"{name}.*")])


def test_sets_of_channels_are_values() -> None:
    """Equal by what is in them, in whatever order; usable as keys; none is refused."""
    assert Channels(["a", Pattern("b.*")]) == Channels([Pattern("b.*"), "a", "a"])
    assert hash(Channels(["a", Pattern("b.*")])) == hash(Channels([Pattern("b.*"), "a"]))
    assert Channels(["a"]) != Channels(["b"])
    assert Channels(["a"]).single == "a"
    assert Channels(["a", "b"]).single is Channels([Pattern("a.*")]).single is None
    with pytest.raises(InvalidChannel, match="at least one"):
        Channels([])


def test_the_first_rule_that_matches_counts() -> None:
    """Rules are looked at in their order; a channel without a rule keeps everything."""
    few, many = Retention(max_events=1), Retention(max_events=100)
    rules = Rules({"logs.debug.>": few, "logs.>": many})
    assert rules.of("logs.debug.x") == few
    assert rules.of("logs.info") == many
    assert rules.of("orders") in (None, Retention())
    assert Rules(few).of("anything") == few
    assert not Rules(None)


def test_a_str_is_a_name_and_nothing_else() -> None:
    """Names are made of what users send: a wildcard in one is refused, and means nothing."""
    for text in ("room.*", "room.>", ">", "*"):
        with pytest.raises(InvalidChannel, match="Pattern"):
            Channels([text])
        assert Channels([Pattern(text)]).patterns == {text}
    assert Channels([Pattern("a.b")]) == Channels(["a.b"])
    for text in ("", "a..b", "a*", "a b"):
        with pytest.raises(InvalidChannel):
            Pattern(text)


@given(st.lists(st.text(st.characters()) | st.integers() | st.uuids(), min_size=1, max_size=3))
def test_any_parts_make_a_safe_name(parts: list[object]) -> None:
    """Each part is one token: no wildcard, no second token, no internal channel, nothing that a URL path changes."""
    name = channel(*parts)
    assert check_channel(name) == name
    assert len(name.split(".")) == len(parts)
    assert not is_internal(name)
    assert unquote(quote(name, safe="")) == name
    assert unquote(name) == name or "%" in name


@given(st.lists(st.text(st.characters())), st.lists(st.text(st.characters())))
def test_different_parts_make_different_names(first: list[str], second: list[str]) -> None:
    """So no one can choose a text that leads to somebody else's channel."""
    if first and second and len(first) < 4 and len(second) < 4:
        assert (channel(*first) == channel(*second)) == (first == second)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("user", 42), "user.42"),
        (("room", "*"), "room.~2a"),
        (("a.b",), "a~2eb"),
        (("room", ""), "room.~"),
        (("$runs",), "~24runs"),
        (("é",), "é"),
        ((Kind.ROOM, Kind.FIRST), "room.1"),
    ],
)
def test_names_stay_readable(parts: tuple[object, ...], name: str) -> None:
    """Only what means something in a name is escaped."""
    assert channel(*parts) == name


def test_a_part_that_nobody_gave_is_no_part() -> None:
    """An id that is missing would be one channel for all who have none; bytes would be named by their quotes."""
    for part in (None, b"ada", bytearray(b"ada")):
        with pytest.raises(TypeError, match="channel"):
            channel("user", part)


def test_a_part_without_a_text_is_none() -> None:
    """An object's place in memory, and a function that was not called, would be another name in each process."""

    class User:
        def id(self) -> int:
            return 1

    for part in (User(), User, User().id, object(), len):
        with pytest.raises(TypeError, match=r"a part of a channel's name is a text or has one, and a \w+ has none"):
            channel("user", part)


def test_long_parts_end_in_a_hash() -> None:
    """What a user sends is never too long for a name, and two long texts never share one."""
    assert len({channel("user", "x" * 1000 + end) for end in "abc"}) == 3
    with pytest.raises(InvalidChannel, match="bytes"):
        channel(*["x" * 80] * 4)
    with pytest.raises(InvalidChannel):
        channel()


def test_a_position_is_its_text() -> None:
    """In JSON, in a dictionary, in a message: what the client sends back. It still compares by offset."""
    position = Position("abc", 12)
    assert json.dumps({"id": position}) == '{"id": "abc-12"}'
    assert position == "abc-12"
    assert {"abc-12": 1}[position] == 1
    assert (position.epoch, position.offset) == ("abc", 12)
    for made in (copy.copy(position), copy.deepcopy(position), pickle.loads(pickle.dumps(position))):
        assert type(made) is Position
        assert made == position
    assert sorted([Position("e", 10), Position("e", 9)]) == [Position("e", 9), Position("e", 10)]
    assert max(Position("e", 10), Position("e", 9)) >= Position("e", 10) > Position("e", 9) <= Position("e", 9)


def test_a_position_in_annotations() -> None:
    """Models of pydantic, and so parameters and answers of FastAPI, may have positions: parsed, and written as text."""

    class Cursor(pydantic.BaseModel):
        after: Position

    cursor = Cursor.model_validate_json('{"after": "abc-12"}')
    assert type(cursor.after) is Position
    assert cursor.after.offset == 12
    assert Cursor(after=Position("abc", 12)).model_dump_json() == '{"after":"abc-12"}'
    assert Cursor.model_json_schema()["properties"]["after"]["type"] == "string"
    with pytest.raises(pydantic.ValidationError, match="is not a position"):
        Cursor.model_validate({"after": "12"})
