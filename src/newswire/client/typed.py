"""Events to values: `source.json(Model)` and `source.json({"name": Model})`.

A model is a dataclass, a TypedDict, a pydantic model, or any other type that `shape` knows. A payload that does not fit
is a `BadPayload` that carries the event: it is raised, or left out if the user wants that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Literal, TypeVar

from newswire.client.shape import Misfit, check_model, shape
from newswire.errors import BadPayload
from newswire.wire.event import Event
from newswire.wire.reserved import GAP

logger = logging.getLogger("newswire.client")

T = TypeVar("T")
Models = type[T] | Mapping[str, type[T]]
OnBad = Literal["skip", "raise"]

_NOTHING: Final[Any] = object()


def decode_as(event: Event, model: Any) -> Any:
    """The data of an event, decoded as JSON into a model.

    Args:
        event: the event.
        model: a dataclass, TypedDict or pydantic model, or another type such as `list[int]`; None: any JSON.

    Raises:
        BadPayload: the data is not JSON, or does not fit.
    """
    if hasattr(model, "model_validate_json"):  # pydantic, which reads JSON faster than we could
        try:
            return model.model_validate_json(event.data)
        except Exception as error:  # its validators are the user's, and may raise anything
            raise _bad(event, model, str(error)) from error
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError) as error:
        raise _bad(event, model, f"it is not JSON that can be read: {error}") from error
    if model is None:
        return value
    try:
        return shape(value, model)
    except (Misfit, RecursionError) as error:
        raise _bad(event, model, str(error)) from error


def _bad(event: Event, model: Any, why: str) -> BadPayload:
    name = getattr(model, "__name__", str(model))
    return BadPayload(f"event {event.id or ''} of type {event.event!r} is no {name}: {why}", event=event, model=model)


class Reader(Generic[T]):
    """Turns events into values; the same for both faces.

    Args:
        models: one model for all events; or one for each type of event, and others are left out; None: any JSON.
        on_bad: whether a payload that doesn't fit is left out or raised.
        hook: told of each that is left out.

    Raises:
        TypeError: JSON can't be read into a model.
        ValueError: `on_bad` is neither `raise` nor `skip`.
    """

    NOTHING: Final[Any] = _NOTHING

    def __init__(self, models: Models[T] | None, on_bad: OnBad, hook: Callable[[BadPayload], None] | None) -> None:
        for model in models.values() if isinstance(models, Mapping) else (models,):
            if not hasattr(model, "model_validate_json"):
                check_model(model)
        if on_bad not in ("raise", "skip"):
            raise ValueError(f"on_bad is 'raise' or 'skip', not {on_bad!r}")
        self._models = models
        self._on_bad = on_bad
        self._hook = hook

    def read(self, event: Event) -> T:
        """The value of an event, or `Reader.NOTHING` if it has none.

        Raises:
            BadPayload: it doesn't fit, and the user wants to know.
        """
        models = self._models
        model: Any = models
        if isinstance(models, Mapping):
            model = models.get(event.event, _NOTHING)
        elif event.event == GAP:
            model = _NOTHING  # told by `Hooks.gap`, raised by `on_gap`, or asked for by name
        if model is _NOTHING:
            if event.event == GAP:
                logger.warning("the server lost events: %s", event.data[:200])
            return _NOTHING  # type: ignore[no-any-return]
        try:
            return decode_as(event, model)  # type: ignore[no-any-return]
        except BadPayload as error:
            if self._on_bad == "raise":
                raise
            if self._hook is not None:
                self._hook(error)
            else:
                logger.warning("left out: %s", error)
            return _NOTHING  # type: ignore[no-any-return]
