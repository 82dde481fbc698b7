"""The contract: what events an application has, and what data each carries.

`Hub(contract=...)` refuses what breaks it, `hub.subscribe` and `EventSource.typed` read with it, and the modules beside
this one write it down for other programs. It is a value: made once when a program starts, and never changed.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    overload,
)

from newswire.contract.codec import AnyCodec, Misfit, codec_of
from newswire.errors import BadPayload, ContractBroken, EventsLost, InvalidEvent
from newswire.reason import what_failed
from newswire.redact import printable
from newswire.validate import check_kind
from newswire.wire.event import Event, Named, NoName
from newswire.wire.reserved import GAP, is_reserved
from newswire.wire.types import EventTypes, Unknown, check_unknown, shown_event

logger: logging.Logger = logging.getLogger("newswire.contract")

D = TypeVar("D")
N = TypeVar("N", bound=str)
T = TypeVar("T")
E = TypeVar("E", covariant=True)
N_co = TypeVar("N_co", bound=str, covariant=True)
D_co = TypeVar("D_co", covariant=True)

_SHOWN: Final = 8  # names, or faults, that a message lists


@dataclass(frozen=True, slots=True)
class TypedEvent(Named[N_co], Generic[N_co, D_co]):
    """An event of a contract, with its data as a value.

    `TypedEvent[Literal["price"], Price]` also declares an event: a union of such types is a contract, and a type
    checker then knows from `event.event` which data the event has.

    Attributes:
        event: its name.
        data: its data, of the type that the contract declares for this name.
        id: the text of its position.
        channel: the channel, where the stream says it.
    """

    event: N_co
    data: D_co
    id: str | None = None
    channel: str | None = None


def declared(kind: Any) -> tuple[str, Any] | None:
    """The name and the type of `TypedEvent[Literal[name], type]`; None for any other type."""
    if get_origin(kind) is not TypedEvent:
        return None
    literal, data = get_args(kind)
    names = get_args(literal)
    return (names[0], data) if len(names) == 1 and isinstance(names[0], str) else None


class _NoValue:
    """A value that no program has."""


class _NoOther:
    """As `_NoValue`: types are solved as names are, by a union (see `newswire.wire.event`)."""


class _Maker(Protocol[N_co, D_co]):
    """A contract, as type checkers solve the names and the types of `Contract.make`."""

    def _declared(self) -> TypedEvent[N_co, D_co]: ...

    def encode(self, data: Any, event: str | None = None) -> Event: ...


class Contract(EventTypes[E]):
    """The events of an application, by name, with the type of each one's data.

    Types are pydantic models, dataclasses, TypedDicts, msgspec structs and any annotation that pydantic knows, such as
    `list[Price]`; None is an event without data. Data is always JSON: an event that carries a str carries `"It works"`,
    with its quotes.

        events = Contract("shop", {"price": Price, "order.placed": Order, "done": None})

    A type checker knows the union of the data's types. Where it should also know which name has which data, declare the
    union of the events:

        ShopEvent = TypedEvent[Literal["price"], Price] | TypedEvent[Literal["done"], None]
        events: Contract[ShopEvent] = Contract("shop", ShopEvent)

    Args:
        name: what the contract is called: in messages, in documents and in the names of generated types.
        events: a mapping from names to types, or a union of `TypedEvent[Literal[name], type]`.
        unknown: what readers do with an event that the contract does not know, such as one that a newer publisher
            sends. `skip` leaves it out; newswire's own events are left out too, a gap with a warning in the log.
            `raise` raises `BadPayload`, and `EventsLost` for a gap. A function is called with each such event.

    Raises:
        ImportError: pydantic is not installed.
        TypeError: a type can't be written as JSON.
        InvalidEvent: a name can't be an event's type, or is reserved.

    Attributes:
        name, unknown: see above.
        events: the types by name.
    """

    @overload
    def __init__(
        self: Contract[TypedEvent[str, T]], name: str, events: Mapping[str, type[T]], *, unknown: Unknown = ...
    ) -> None: ...

    @overload
    def __init__(
        self: Contract[TypedEvent[str, T | None]],
        name: str,
        events: Mapping[str, type[T] | None],
        *,
        unknown: Unknown = ...,
    ) -> None: ...

    @overload
    def __init__(self, name: str, events: Any, *, unknown: Unknown = ...) -> None: ...

    def __init__(self, name: str, events: Any, *, unknown: Unknown = "skip") -> None:
        check_kind("a contract's name", name, str)
        if not str(name).strip() or not str(name).isprintable():
            raise ValueError(f"a contract's name is a text on one line, such as 'shop', not {name!r:.60}")
        check_unknown(unknown)
        self.name = name
        self.unknown = unknown
        self.events: Mapping[str, Any] = MappingProxyType(_declarations(events))
        for each in self.events:
            Event("", each)  # raises if it can't be an event's type
            if is_reserved(each):
                raise InvalidEvent("event", f"the event type {each!r} is reserved: choose another")
        self._codecs = {each: codec_of(kind) for each, kind in self.events.items()}
        self._names: dict[type, list[str]] = {}  # by the class of a value, the names that it may have
        for each, kind in self.events.items():
            for cls in _classes(kind):
                self._names.setdefault(cls, []).append(each)

    def __repr__(self) -> str:
        return f"Contract({self.name!r}, {dict(self.events)!r})"

    def codec(self, event: str) -> AnyCodec:
        """What writes and reads the data of an event."""
        return self._codecs[event]

    # -- publish

    def encode(self, data: Any, event: str | None = None) -> Event:
        """Make an event, as publishing does.

        Args:
            data: a value of the declared type, or one that pydantic makes such a value of, as a dict. bytes, and the
                data of an `Event`, are JSON text.
            event: the event's name. None: the one name that the class of `data` is declared for.

        Raises:
            ContractBroken: the contract has no such event, or the data doesn't fit; the error names the place.
        """
        if isinstance(data, Event):
            if event is not None and event != data.event:
                raise InvalidEvent("event", "an Event brings its own type: leave out `event`")
            name = data.event
            return data._replace(data=self._write(name, data.data, text=True))
        if isinstance(data, (bytes, bytearray, memoryview)):  # as over HTTP, where an event without a type is `message`
            name = "message" if event is None else event
            return Event(self._write(name, bytes(data), text=True), name)
        name = self._name_of(data) if event is None else event
        return Event(self._write(name, data, text=False), name)

    if TYPE_CHECKING:

        def _declared(self) -> E | TypedEvent[NoName, _NoValue | _NoOther]: ...

    def make(self: _Maker[N, D], data: D, event: N | None = None) -> Event:
        """Make an event of a value, as `encode` does; type checkers know which values and which names there are.

            await hub.publish("prices", events.make(Price(symbol="A", value=1.0)))

        Raises:
            ContractBroken: see `encode`.
        """
        return self.encode(data, event)

    def _write(self, name: str, data: Any, *, text: bool) -> str:
        codec = self._codecs.get(name)
        if codec is None:
            raise self._undeclared(name)
        try:
            return codec.rewrite(data) if text else codec.write(data)
        except Misfit as misfit:
            faults = [(f"data{'' if p[:1] in ('', '[') else '.'}{p}", message) for p, message in misfit.faults]
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            listed = "; ".join(f"{path}: {message}" for path, message in faults[:_SHOWN])
            message = f"the event {name!r} of the contract {self.name!r} can't have this data: {listed}{more}"
            raise ContractBroken(message, contract=self.name, event=name, faults=faults) from misfit

    def _name_of(self, data: Any) -> str:
        for cls in type(data).__mro__:
            names = self._names.get(cls)
            if names is None:
                continue
            if len(names) == 1:
                return names[0]
            message = f"{cls.__name__} is the data of {_listed(names)}: name the event with `event`"
            raise ContractBroken(message, contract=self.name, event=None, faults=[("event", message)])
        if "message" in self._codecs:
            return "message"
        message = (
            f"the contract {self.name!r} has no event whose data is {type(data).__name__}; it has "
            f"{_listed(self.events)}. If the data is meant for one of them, name it with `event`"
        )
        raise ContractBroken(message, contract=self.name, event=None, faults=[("event", message)])

    def _undeclared(self, name: object) -> InvalidEvent:
        if not isinstance(name, str):
            return InvalidEvent("event", f"event must be a str, not {type(name).__name__}")
        message = f"the contract {self.name!r} has no event {name[:100]!r}; it has {_listed(self.events)}"
        return ContractBroken(message, contract=self.name, event=name, faults=[("event", message)])

    # -- read

    def read(self, event: Event, unknown: Unknown | None = None) -> E | None:
        """Read an event; it becomes a `TypedEvent`. See `EventTypes.read`."""
        name = event.event
        codec = self._codecs.get(name)
        if codec is None:
            self._pass_over(event, self.unknown if unknown is None else unknown)
            return None
        try:
            data = codec.read(event.data)
        except Exception as error:  # a type's own code may raise anything
            why = str(error) if isinstance(error, Misfit) else f"{type(error).__name__}: {error}"
            message = f"{shown_event(event)} does not fit {name!r} of the contract {self.name!r}: {why}"
            message = printable(message, lines=False)
            raise BadPayload(message, event=event, model=self.events[name]) from error
        read: Any = TypedEvent(name, data, event.id, event.channel)
        return read  # type: ignore[no-any-return]

    def _pass_over(self, event: Event, unknown: Unknown) -> None:
        if callable(unknown):
            unknown(event)
        elif unknown == "raise":
            if event.event == GAP:
                raise EventsLost(event)
            if not is_reserved(event.event):
                message = f"{shown_event(event)} is {event.event!r}, which the contract {self.name!r} does not have"
                raise BadPayload(printable(message, lines=False), event=event, model=self)
        elif event.event == GAP:
            logger.warning("events were lost: %s", printable(event.data[:200], lines=False))


def _declarations(events: Any) -> dict[str, Any]:
    if isinstance(events, Mapping):
        found = dict(events)
    else:
        union = get_args(events) if get_origin(events) in (Union, UnionType) else (events,)
        pairs = [declared(each) for each in union]
        if None in pairs:
            raise TypeError(
                "a contract's events are a mapping from names to types, or a union of TypedEvent[Literal[name], type]; "
                f"{union[pairs.index(None)]!r:.100} is neither"
            )
        found = {}
        for name, kind in filter(None, pairs):
            if name in found:
                raise TypeError(f"the event {name!r} is declared twice: give it the union of the two types")
            found[name] = kind
    if not found:
        raise ValueError("a contract has at least one event")
    return {name: None if kind is type(None) else kind for name, kind in found.items()}


def _classes(kind: Any) -> list[type]:
    """The classes of the values of a type, as far as they are known: both of `Circle | Square`."""
    if kind is None:
        return [type(None)]
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return [cls for each in get_args(kind) for cls in _classes(each)]
    if origin is Annotated:
        return _classes(get_args(kind)[0])
    if hasattr(kind, "__total__"):  # a TypedDict, whose values are plain dicts
        return [dict]
    found = origin or kind
    return [found] if isinstance(found, type) and found is not object else []


def _listed(names: Any) -> str:
    shown = [repr(name) for name in list(names)[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def load(target: str, folder: str = ".") -> Contract[Any]:
    """Import a contract.

    Args:
        target: `MODULE:CONTRACT`, such as `shop.events:events`.
        folder: where Python looks for the module first.

    Raises:
        ValueError: there is no such contract, or its module fails; the message says why.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{target!r} is not MODULE:CONTRACT, such as shop.events:events")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        home: Any = importlib.import_module(module)
    except Exception as error:  # the application's code; the message shows what it raises
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"there is no module {error.name!r} in {folder!r}, nor is it installed") from None
        raise ValueError(what_failed(f"{module} can't be imported", error)) from error
    found = home
    for name in attribute.split("."):
        if not hasattr(found, name):
            contracts = [name for name, each in vars(home).items() if isinstance(each, Contract)]
            hint = f"; it has {', '.join(contracts)}" if contracts else ""
            raise ValueError(f"module {module!r} has no {attribute!r}{hint}")
        found = getattr(found, name)
    if not isinstance(found, Contract):
        raise ValueError(f"{target} is of type {type(found).__name__}, and no newswire.contract.Contract")
    return found
