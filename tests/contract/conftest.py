"""jsonschema, whose import compiles the grammars of URIs: a second, which other runs need not pay."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


@pytest.fixture(scope="session")
def jsonschema() -> Any:
    """The package."""
    return importlib.import_module("jsonschema")
