"""What all that reads types of Python has in common."""

from __future__ import annotations

from typing import TypedDict

import pydantic
import pytest

from newswire.wire.types import with_extensions


class Price(TypedDict, total=False):
    """A TypedDict of the standard library's."""

    amount: int


def test_a_typed_dict_of_the_standard_library_is_one_for_pydantic() -> None:
    """On every Python, and its keys stay as optional as they are; any other type is left as it is."""
    adapter: pydantic.TypeAdapter[Price] = pydantic.TypeAdapter(with_extensions(Price))
    assert adapter.validate_json('{"amount": 5}') == {"amount": 5}
    assert adapter.validate_json("{}") == {}
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_json('{"amount": "many"}')
    assert with_extensions(list[int]) == list[int]
