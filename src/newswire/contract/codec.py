"""Values to JSON text and back, checked, for one declared type.

pydantic does it for every type that it knows: its own models, dataclasses, TypedDicts, and any annotation such as
`list[int] | None`. msgspec does it for its structs, which pydantic doesn't know. `Contract` asks `codec_of` for each
event.

What is written was also read: the text is checked as a reader will check it. So an object that was changed behind the
back of its class (or a dataclass, which checks nothing) is refused here and not at its readers, and `NaN`, which JSON
has not, can't become `null`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, get_args, get_origin

from newswire.wire.types import with_extensions

_MISSING: Final = "contracts need pydantic, which is not installed: pip install 'newswire[contract]'"


class Fault(NamedTuple):
    """One thing that is wrong with a value.

    Attributes:
        path: the place, such as `lines[0].quantity`; empty for the value itself.
        message: what is wrong there.
    """

    path: str
    message: str


class Misfit(Exception):
    """A value or a text doesn't fit the type.

    Attributes:
        faults: what is wrong, at least one.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{path or 'the value'}: {message}" for path, message in faults))
        self.faults: tuple[Fault, ...] = tuple(faults)


class PydanticCodec:
    """A type that pydantic knows.

    Attributes:
        adapter: pydantic's own object for it.
    """

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter

    def write(self, value: Any) -> str:
        try:
            return self._settled(self._dump(self.adapter.validate_python(value)))
        except ValueError as error:
            raise _misfit(error) from error

    def rewrite(self, text: str | bytes) -> str:
        try:
            return self._settled(self._dump(self.adapter.validate_json(text)))
        except ValueError as error:
            raise _misfit(error) from error

    def read(self, text: str) -> Any:
        try:
            return self.adapter.validate_json(text)
        except ValueError as error:
            raise _misfit(error) from error

    def _settled(self, text: bytes) -> str:
        """The text, once reading and writing it again changes nothing."""
        again = self._dump(self.adapter.validate_json(text))
        if again != text:  # `"5"` became 5; the order of a set may have changed too
            self.adapter.validate_json(again)
        return again.decode()

    def _dump(self, value: Any) -> bytes:
        dumped: bytes = self.adapter.dump_json(value, by_alias=True, warnings="none")
        return dumped


class MsgspecCodec:
    """A type made of msgspec's structs.

    Attributes:
        kind: the type.
    """

    def __init__(self, msgspec: Any, kind: Any) -> None:
        self.kind = kind
        self._msgspec = msgspec
        self._decoder = msgspec.json.Decoder(kind)
        self._encoder = msgspec.json.Encoder()

    def write(self, value: Any) -> str:
        try:
            if isinstance(value, (dict, list)):
                value = self._msgspec.convert(value, self.kind, strict=False)
            text = self._encoder.encode(value)
        except (ValueError, TypeError) as error:
            raise _misfit(error) from error
        return self.rewrite(text)

    def rewrite(self, text: str | bytes) -> str:
        encoded: bytes = self._encoder.encode(self.read(text))
        return encoded.decode()

    def read(self, text: str | bytes) -> Any:
        try:
            return self._decoder.decode(text)
        except (ValueError, TypeError) as error:
            raise _misfit(error) from error
        except RecursionError as error:
            raise Misfit([Fault("", "it is nested too deeply")]) from error


AnyCodec: TypeAlias = PydanticCodec | MsgspecCodec


def codec_of(kind: Any) -> AnyCodec:
    """What writes and reads values of a type.

    Args:
        kind: a type; None: the value None.

    Raises:
        ImportError: pydantic is not installed.
        TypeError: neither pydantic nor msgspec can do this type.
    """
    if isinstance(kind, str) or (dataclasses.is_dataclass(kind) and not isinstance(kind, type)):
        raise TypeError(f"{kind!r} is no type: give the class itself")
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and any(_is_struct(each) for each in parts(kind)):
        return MsgspecCodec(msgspec, kind)
    try:
        import pydantic
    except ImportError:
        raise ImportError(_MISSING) from None
    try:
        adapter: Any = pydantic.TypeAdapter(type(None) if kind is None else with_extensions(kind))
        adapter.rebuild()  # raises if an annotation can't be resolved
    except (pydantic.errors.PydanticUserError, NameError) as error:
        raise TypeError(f"{kind!r} can't be written as JSON: {error}") from error
    return PydanticCodec(adapter)


def parts(kind: Any) -> Iterator[Any]:
    """The types that an annotation is made of, itself first: `A` and `B` of `list[A | B]`."""
    yield kind
    for each in get_args(kind):
        if not isinstance(each, (str, int, float, bytes)):  # what a Literal has
            yield from parts(each)


def _is_struct(kind: Any) -> bool:
    return hasattr(get_origin(kind) or kind, "__struct_fields__")


def _misfit(error: Exception) -> Misfit:
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic's
        return Misfit([Fault(_path(each["loc"]), each["msg"]) for each in errors(include_url=False)])
    message, _, place = str(error).partition(" - at `$")  # msgspec's
    return Misfit([Fault(place.rstrip("`").lstrip("."), message)])


def _path(places: Sequence[str | int]) -> str:
    text = "".join(f"[{place}]" if type(place) is int else f".{place}" for place in places)
    return text.removeprefix(".")
