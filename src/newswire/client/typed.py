"""Events to values: `source.json(Model)`, `source.json({"name": Model})` and `source.typed(contract)`.

Both sources give each event to a `TypedReader`; programs call `decode_as`. Where pydantic is installed, it checks the
values: a model is then any type that pydantic knows. Without it, models are dataclasses whose fields have JSON's types
(`str`, `list[int]`, `float | None` …) or are such dataclasses. Both are strict: a number is no text, a bool is no
number, and keys that the model doesn't name are left out, since servers add fields. Only a pydantic model decides for
itself what it takes.

A payload that doesn't fit becomes a `BadPayload`, never another exception. Nothing here imports pydantic before a
model is given.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from newswire.errors import BadPayload
from newswire.redact import printable
from newswire.validate import check_kind
from newswire.wire.event import Event
from newswire.wire.reserved import GAP, LIVE, PRESENCE
from newswire.wire.types import EventTypes, Unknown, check_unknown, shown_event, with_extensions

logger: logging.Logger = logging.getLogger("newswire.client")

T = TypeVar("T")
V = TypeVar("V", covariant=True)
Models = type[T] | Mapping[str, type[T]]
OnBad = Literal["skip", "raise"]

_NOTHING: Final[Any] = object()
_PLAIN: Final = (str, bool, int, float, list, dict, type(None))


def decode_as(event: Event, model: Any) -> Any:
    """Decodes the data of an event from JSON into a model.

    Args:
        event: the event.
        model: a dataclass, a pydantic model, or another type such as `list[int]`; None: any JSON.

    Raises:
        BadPayload: the data is not JSON, or does not fit.
        TypeError: JSON can't be read into the model, or `event` is none.
    """
    check_kind("event", event, Event)
    return _decode(event, model, _converter(model))


def _decode(event: Event, model: Any, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(event.data)
    except Exception as error:  # the model's own code may raise anything
        errors = getattr(error, "errors", None)
        if isinstance(error, RecursionError):
            why = "the data is nested too deeply"
        else:
            why = _explain(errors()) if callable(errors) else str(error) or type(error).__name__
        name = getattr(model, "__name__", str(model))
        message = printable(f"{shown_event(event)} of type {event.event!r} is no {name}: {why}", lines=False)
        raise BadPayload(message, event=event, model=model) from error


def _explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """The errors of pydantic on one line, with their places as JSON path."""
    places = (
        "$" + "".join(f"[{part}]" if type(part) is int else f".{part}" for part in each["loc"]) for each in errors
    )
    return "; ".join(f"{place}: {each['msg']}" for place, each in zip(places, errors, strict=True))


def _converter(model: Any) -> Callable[[str], Any]:
    """What makes a value of a text.

    Raises:
        TypeError: JSON can't be read into the model.
    """
    try:
        return _cached_converter(model)
    except TypeError:
        return _new_converter(model)  # it can't be hashed; or it is no model, and this says so


def _new_converter(model: Any) -> Callable[[str], Any]:
    if model is None:
        return json.loads
    if isinstance(model, str) or (dataclasses.is_dataclass(model) and not isinstance(model, type)):
        raise TypeError(f"{model!r} can't be read from JSON: give the type itself")
    try:
        import pydantic
    except ImportError:
        _check(model)
        return lambda text: _fit(json.loads(text), model, "$")
    try:
        adapter: Any = pydantic.TypeAdapter(with_extensions(model))
        adapter.rebuild()  # raises if an annotation can't be resolved
    except (pydantic.errors.PydanticUserError, NameError) as error:
        raise TypeError(f"{model!r} can't be read from JSON: {error}") from error
    strict = None if hasattr(model, "model_validate_json") else True
    return lambda text: adapter.validate_json(text, strict=strict)


_cached_converter = lru_cache(256)(_new_converter)


# -- without pydantic


def _check(model: Any, seen: frozenset[Any] = frozenset()) -> None:
    """Raises TypeError if `_fit` doesn't know `model`, or a type in it."""
    if model is Any or model is object or model in _PLAIN or model is None or model in seen:
        return
    if isinstance(model, type) and dataclasses.is_dataclass(model):
        inner: Any = _hints(model).values()
    elif get_origin(model) in (Union, types.UnionType, list):
        inner = get_args(model)
    elif get_origin(model) is dict and get_args(model)[0] is str:
        inner = get_args(model)[1:]
    else:
        raise TypeError(f"{model!r} can't be read from JSON without pydantic: install it, or use a plain dataclass")
    for each in inner:
        _check(each, seen | {model})


@lru_cache(256)
def _hints(model: Any) -> dict[str, Any]:
    try:
        hints = get_type_hints(model)
    except NameError as error:
        raise TypeError(f"{model!r} has annotations that can't be resolved: {error}") from None
    return {field.name: hints[field.name] for field in dataclasses.fields(model) if field.init}


def _fit(value: Any, model: Any, place: str) -> Any:
    """Returns a value of `json.loads` as a `model`. Raises ValueError, which names the place, if it doesn't fit."""
    if model is Any or model is object or type(value) is (type(None) if model is None else model):
        return value
    if model is float and type(value) is int:
        return float(value)
    origin, arguments = get_origin(model), get_args(model)
    if origin in (Union, types.UnionType):
        for each in arguments:
            try:
                return _fit(value, each, place)
            except ValueError:
                continue
    elif origin is list and type(value) is list:
        return [_fit(item, arguments[0], f"{place}[{index}]") for index, item in enumerate(value)]
    elif origin is dict and type(value) is dict:
        return {key: _fit(item, arguments[1], f"{place}.{key}") for key, item in value.items()}
    elif isinstance(model, type) and dataclasses.is_dataclass(model) and type(value) is dict:
        for field in dataclasses.fields(model):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if field.init and required and field.name not in value:
                raise ValueError(f"{place}.{field.name} is missing")
        hints = _hints(model)
        return model(**{name: _fit(value[name], hints[name], f"{place}.{name}") for name in hints if name in value})
    raise ValueError(f"{place} is {str(value)[:60]!r}, not {getattr(model, '__name__', model)}")


# -- events to values


class EventReader(Protocol[V]):
    """What gives a source's iterator its values."""

    def read(self, event: Event) -> V:
        """The value of an event, or `TypedReader.NOTHING`. Raises `BadPayload`."""
        ...


class _OnBad:
    """What happens to a payload that doesn't fit."""

    def __init__(self, on_bad: OnBad, hook: Callable[[BadPayload], None] | None) -> None:
        if on_bad not in ("raise", "skip"):
            raise ValueError(f"on_bad is 'raise' or 'skip', not {on_bad!r}")
        self._on_bad = on_bad
        self._hook = hook

    def take(self, error: BadPayload) -> Any:
        """Returns `TypedReader.NOTHING`, or raises the error."""
        if self._on_bad == "raise":
            raise error
        if self._hook is not None:
            self._hook(error)
        else:
            logger.warning("left out: %s", error)
        return _NOTHING


class ContractReader(Generic[T]):
    """Turns events into the values of a contract, for both sources.

    Args:
        contract: the contract.
        unknown: what happens to an event that it does not know; None: what the contract says.
        on_bad, hook: as of `TypedReader`.
    """

    def __init__(
        self,
        contract: EventTypes[T],
        unknown: Unknown | None,
        on_bad: OnBad,
        hook: Callable[[BadPayload], None] | None,
    ) -> None:
        check_kind("contract", contract, EventTypes)
        if unknown is not None:
            check_unknown(unknown)
        self._contract = contract
        self._unknown = unknown
        self._bad = _OnBad(on_bad, hook)

    def read(self, event: Event) -> T:
        """Returns the value of an event, or `TypedReader.NOTHING` if it has none."""
        try:
            value = self._contract.read(event, self._unknown)
        except BadPayload as error:
            return self._bad.take(error)  # type: ignore[no-any-return]
        return _NOTHING if value is None else value


class TypedReader(Generic[T]):
    """Turns events into values, for both sources.

    Args:
        models: one model for all events; or one for each type of event, and others are left out; None: any JSON.
        on_bad: whether a payload that doesn't fit is left out or raised.
        hook: called with each payload that is left out.

    Raises:
        TypeError: JSON can't be read into a model.
        ValueError: `on_bad` is neither `raise` nor `skip`, or `models` is an empty mapping.
    """

    NOTHING: Final[Any] = _NOTHING

    def __init__(self, models: Models[T] | None, on_bad: OnBad, hook: Callable[[BadPayload], None] | None) -> None:
        self._bad = _OnBad(on_bad, hook)
        if isinstance(models, Mapping):
            if not models:
                raise ValueError("models is empty, so all events would be left out: name their types, or give None")
            for name in models:
                check_kind("the type of an event", name, str)
            self._converters: dict[str, Any] = {name: (model, _converter(model)) for name, model in models.items()}
            self._others: tuple[Any, Callable[[str], Any]] | None = None
        else:
            # A gap is no event of the user's: it goes to `Hooks.gap`, `on_gap`, or a model that is given by its name.
            # Nor is the mark that all that was stored has come, or a change of members.
            self._converters = {GAP: None, LIVE: None, PRESENCE: None}
            self._others = models, _converter(models)

    def read(self, event: Event) -> T:
        """Returns the value of an event, or `TypedReader.NOTHING` if it has none.

        Raises:
            BadPayload: the data doesn't fit, and `on_bad` is `raise`.
        """
        known = self._converters.get(event.event, self._others)
        if known is None:
            if event.event == GAP:
                logger.warning("the server lost events: %s", printable(event.data[:200], lines=False))
            return _NOTHING  # type: ignore[no-any-return]
        try:
            return _decode(event, *known)  # type: ignore[no-any-return]
        except BadPayload as error:
            return self._bad.take(error)  # type: ignore[no-any-return]
