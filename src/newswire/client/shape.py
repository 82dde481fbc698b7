"""JSON values into typed ones, by type hints, with the standard library alone.

Strict: a number is not a string, a bool is not a number; keys that a dataclass doesn't name are left out, since servers
add fields. Knows dataclasses, TypedDicts, `list`, `tuple`, `dict`, `set`, unions, `Literal`, enums and the JSON types.
For conversions and constraints there is pydantic, which `newswire.client` reads as well. `check_model` finds a type
that is not known here before there is a value.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

_JSON = (str, bool, type(None))
_GENERIC = (Union, types.UnionType, list, set, frozenset, tuple, dict)


class Misfit(ValueError):
    """A value that doesn't fit its type; the text says where."""


@functools.lru_cache(maxsize=256)
def _hints(model: Any) -> dict[str, Any]:
    return get_type_hints(model)


@functools.lru_cache(maxsize=256)
def _required(model: Any) -> tuple[str, ...]:
    # `__required_keys__` alone is wrong where annotations are strings: it doesn't look into them.
    origins = {name: get_origin(hint) for name, hint in get_type_hints(model, include_extras=True).items()}
    return tuple(
        name
        for name, origin in origins.items()
        if origin is Required or (name in model.__required_keys__ and origin is not NotRequired)
    )


def check_model(model: Any) -> None:
    """See that values can be read into `model`.

    Raises:
        TypeError: `model`, or a type in it, is none that is known here.
    """
    _check(model, set())


def _check(model: Any, seen: set[int]) -> None:
    """`seen` holds the ids of the models that are being checked: a model may have itself in it."""
    if model is None or model in (Any, object, str, bool, int, float, type(None)) or id(model) in seen:
        return
    seen.add(id(model))
    if isinstance(model, type) and (hasattr(model, "model_validate") or issubclass(model, enum.Enum)):
        return
    if (isinstance(model, type) and dataclasses.is_dataclass(model)) or is_typeddict(model):
        try:
            hints = _hints(model)
        except NameError as error:
            raise TypeError(f"{model!r} has annotations that can't be resolved: {error}") from None
        names = [field.name for field in dataclasses.fields(model) if field.init] if _is_data(model) else [*hints]
        for name in names:
            _check(hints[name], seen)
        return
    origin, arguments = get_origin(model) or model, get_args(model)
    if origin is Literal:
        return
    if origin in (NotRequired, Required, typing.Annotated):
        arguments = arguments[:1]
    elif origin is dict and arguments and arguments[0] not in (str, Any) and get_origin(arguments[0]) is not Literal:
        raise TypeError(f"{model!r}: the keys of a JSON object are text")
    elif origin not in _GENERIC:
        raise TypeError(f"{model!r} can't be read from JSON here: use a dataclass, a TypedDict or a pydantic model")
    for inner in arguments:
        if inner is not Ellipsis:
            _check(inner, seen)


def _is_data(model: Any) -> bool:
    return isinstance(model, type) and dataclasses.is_dataclass(model)


def shape(value: Any, model: Any, path: str = "$") -> Any:
    """`value`, as `json.loads` gave it, as a `model`.

    Raises:
        Misfit: it doesn't fit.
        RecursionError: it is nested too deeply.
        TypeError: `model` is a type that is not known here; see `check_model`.
    """
    if model is Any or model is object:
        return value
    if model in _JSON or model is None:
        if type(value) is (model or type(None)):
            return value
        raise _misfit(value, model, path)
    if model is int:
        if type(value) is int:
            return value
        raise _misfit(value, model, path)
    if model is float:
        if type(value) in (int, float):
            return float(value)
        raise _misfit(value, model, path)
    if dataclasses.is_dataclass(model):
        return _dataclass(value, model, path)
    if is_typeddict(model):
        return _typed_dict(value, model, path)
    if isinstance(model, type) and issubclass(model, enum.Enum):
        return _made(lambda: model(value), path)
    if hasattr(model, "model_validate"):
        return _made(lambda: model.model_validate(value), path)
    return _generic(value, model, path)


def _misfit(value: Any, model: Any, path: str) -> Misfit:
    return Misfit(f"{path} is {str(value)[:60]!r}, not {getattr(model, '__name__', model)}")


def _dataclass(value: Any, model: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(value, model, path)
    hints, given = _hints(model), {}
    for field in dataclasses.fields(model):
        if not field.init:
            continue
        if field.name in value:
            given[field.name] = shape(value[field.name], hints[field.name], f"{path}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Misfit(f"{path}.{field.name} is missing")
    return _made(lambda: model(**given), path)


def _made(make: Callable[[], Any], path: str) -> Any:
    """What a model's own code makes of a value. Whatever it raises says that the value doesn't fit."""
    try:
        return make()
    except Exception as error:
        raise Misfit(f"{path}: {str(error) or type(error).__name__}") from error


def _typed_dict(value: Any, model: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(value, model, path)
    for name in _required(model):
        if name not in value:
            raise Misfit(f"{path}.{name} is missing")
    hints = _hints(model)
    return {name: shape(item, hints[name], f"{path}.{name}") if name in hints else item for name, item in value.items()}


def _generic(value: Any, model: Any, path: str) -> Any:
    origin, arguments = get_origin(model) or model, get_args(model)
    if origin in (Union, types.UnionType):
        for each in arguments:
            try:
                return shape(value, each, path)
            except Misfit:
                continue
        raise _misfit(value, model, path)
    if origin is Literal:
        if any(value == each and type(value) is type(each) for each in arguments):
            return value
        raise _misfit(value, model, path)
    if origin in (NotRequired, Required, typing.Annotated):
        return shape(value, arguments[0], path)
    if origin in (list, set, frozenset, tuple):
        return _many(value, origin, arguments, path)
    if origin is dict:
        if not isinstance(value, dict):
            raise _misfit(value, model, path)
        inner = arguments[1] if arguments else Any
        return {key: shape(item, inner, f"{path}.{key}") for key, item in value.items()}
    raise TypeError(f"{model!r} can't be read from JSON here: use a dataclass, a TypedDict or a pydantic model")


def _many(value: Any, origin: Any, arguments: tuple[Any, ...], path: str) -> Any:
    if not isinstance(value, list):
        raise _misfit(value, origin, path)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise Misfit(f"{path} has {len(value)} items, not {len(arguments)}")
        return tuple(
            shape(item, inner, f"{path}[{n}]") for n, (item, inner) in enumerate(zip(value, arguments, strict=True))
        )
    inner = arguments[0] if arguments else Any
    items = [shape(item, inner, f"{path}[{n}]") for n, item in enumerate(value)]
    try:
        return origin(items)
    except TypeError:
        raise Misfit(f"{path} has items that no {origin.__name__} can hold") from None
