"""docs/errors.md has a section for each code of an error answer, and `type` of the answer leads there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

import yaml
from tests.docs.test_docs import ROOT

from newswire.delivery.problem import ERRORS, Problem
from newswire.wire import reserved

PAGE: Final = (ROOT / "docs" / "errors.md").read_text()
SOURCE: Final = ROOT / "src" / "newswire"
# Packages whose errors are answers over HTTP. A dialect's problem is a part of a stream, and the doctor's findings have
# codes of another kind.
ANSWERS: Final = ("delivery", "integrations", "relay", "runs", "server", "serving")
FUNCTIONS: Final = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> Iterator[ast.Module]:
    """The modules that answer requests."""
    for package in ANSWERS:
        for path in sorted((SOURCE / package).rglob("*.py")):
            if "dialects" not in path.parts:
                yield ast.parse(path.read_text())


def parameter_places(tree: ast.Module) -> Iterator[tuple[str, int | None, str | None]]:
    """Name, place of the parameter `code` and its default, of each function and class that takes a code."""
    for node in ast.walk(tree):
        name = node.name if isinstance(node, FUNCTIONS | ast.ClassDef) else ""
        if isinstance(node, ast.ClassDef):
            found = [each for each in node.body if isinstance(each, FUNCTIONS) and each.name == "__init__"]
            if not found:
                continue
            node = found[0]
        if not isinstance(node, FUNCTIONS) or (node.name == "__init__" and not name):
            continue
        arguments = node.args
        names = [each.arg for each in arguments.args if each.arg not in ("self", "cls")]
        default = None
        if "code" in names:
            back = len(arguments.args) - [each.arg for each in arguments.args].index("code")
            if back <= len(arguments.defaults):
                default = constant(arguments.defaults[-back])
            yield name, names.index("code"), default
        for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if each.arg == "code":
                yield name, None, constant(value)


def constant(node: ast.AST | None) -> str | None:
    """The text that an expression is, if it is one."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def codes() -> set[str]:
    """Every code that an answer can have: what calls give for a parameter `code`, and its defaults."""
    parsed = list(trees())
    places: dict[str, int | None] = {}
    found: set[str | None] = set()
    for tree in parsed:
        for name, place, default in parameter_places(tree):
            places[name] = place
            found.add(default)
    for tree in parsed:
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name not in places:
                continue
            place = places[name]
            if place is not None and place < len(call.args):
                given: ast.AST = call.args[place]
                found |= (
                    {constant(given.body), constant(given.orelse)}
                    if isinstance(given, ast.IfExp)
                    else {constant(given)}
                )
            found |= {constant(each.value) for each in call.keywords if each.arg == "code"}
    return {code for code in found if code and re.fullmatch("[a-z0-9_]+", code)}


def test_each_code_has_a_section() -> None:
    """And each section is of a code that exists."""
    sections = re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)
    assert len(sections) == len(set(sections))
    assert set(sections) == codes()


def test_a_section_says_what_it_means_and_what_to_do() -> None:
    """With the status of the answer."""
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        code, _, text = section.partition("\n")
        assert re.search(r"\b[45](\d\d|xx)\b", text), code
        assert len(text.split()) > 5, code


def test_the_type_leads_to_the_section() -> None:
    """At the address of the site."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)
    assert config["site_url"] + "errors/" == ERRORS
    assert Problem(400, "invalid_event", "no").members()["type"] == f"{ERRORS}#invalid_event"


def test_each_type_of_event_is_on_its_page() -> None:
    """Whatever newswire sends itself is explained."""
    page = (ROOT / "docs" / "events.md").read_text()
    for name, value in vars(reserved).items():
        if name.isupper() and name != "PREFIX" and isinstance(value, str):
            assert f"`{value}`" in page, value
