"""Finds prose that is not plain English: `python scripts/prose.py [PATH...]`.

Reads docstrings, comments and error messages of Python files, and the text of Markdown pages; code is left out. A line
with `prose: ok` is let through.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
WHERE: Final = (
    "src",
    "tests",
    "benchmarks",
    "examples",
    "scripts",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
)
ALLOWED: Final = "prose: ok"

# Each is a habit and what to write instead.
RULES: Final = {
    r"\banew\b": "again",
    r"\bnobody\b": "no one, or a sentence with another subject",
    r"\bwhosever\b|\bso-manieth\b|\bthat which\b": "a common word",
    r"\b(?:is|are|was|were|be|been|being|gets?) (?:told|asked)\b": "an active verb: A tells B, reports, sends",
    r"\b(?:is|are|was|were|be|been) said\b": "an active verb: says, reports",
    r"\b(?:of|to|by|for|from|with|only|and|or) who\b": "name who: a client that …",
    r"(?<!one )(?<!body )\bwho (?:has|gives|asks|gave|lacks)\b": "name who: a client that …",
    r"(?:^|[.;] )who (?:is|has|was|can|could|reads|comes|may|does)\b(?![^.]*\?)": "name who: a client that …",
    r"\bof (?:one|those|him|somebody|something) (?:that|who|which)\b": "name it: of a reader that …",
    r"\bof which (?:it|they|the|we|a)\b|\bof whom\b": "two sentences",
    r"\bha(?:s|ve|d) it not\b|\bknows? not\b|\bis it not\b": "an ordinary negation",
    r"\bto be had\b|\bis to be had\b|\bcame to nothing\b|\bcomes? of it\b|\bcame of it\b": "plain words",
    r"(?:^|[.;:] )(?:what|all that|all|the rest|this|that|whatever|nothing|more) (?:\w+ ){0,3}?(?:it|they|we|nobody) "
    r"(?:does|do|did|gets?|got|has|have|had|knows?|takes?|keeps?|gives?|needs?)(?=[.,;]|$)": "subject before verb",
    r"\b(?:is|are) there only for\b|\bthere is only for\b": "is visible only to",
}
PATTERNS: Final = [(re.compile(rule, re.IGNORECASE), advice) for rule, advice in RULES.items()]
STRING_OR_COMMENT: Final = re.compile(
    r"""(?P<quote>\"{3}|'{3}).*?(?<!\\)(?:\\\\)*(?P=quote)"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(?P<comment>#[^\n]*)""",
    re.DOTALL,
)
CODE: Final = re.compile(r"`[^`]*`|https?://\S+")


def main(arguments: Sequence[str]) -> int:
    """Print what is found. Returns the exit status."""
    paths = [Path(argument) for argument in arguments] or [ROOT / name for name in WHERE]
    bad = 0
    for path in sorted(file for start in paths for file in files(start)):
        name = path.resolve().relative_to(ROOT).as_posix()
        for line, found, advice in complaints(path):
            bad += 1
            print(f"{name}:{line}: {found!r}: {advice}")
    if bad:
        print(f"{bad} places are not plain English; a line with `{ALLOWED}` is let through")
    return bool(bad)


def files(start: Path) -> Iterator[Path]:
    """The Python files and Markdown pages below a folder, or the one file."""
    found = [start] if start.is_file() else start.rglob("*")
    for path in found:
        if path.suffix in (".py", ".md") and not {"node_modules", ".build", "recorded"} & set(path.parts):
            if path.resolve() != Path(__file__).resolve():
                yield path


def complaints(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, words and advice, for each place in a file that a rule finds."""
    text = path.read_text(encoding="utf-8")
    allowed = {number for number, line in enumerate(text.splitlines(), 1) if ALLOWED in line}
    pieces = prose_of_markdown(text) if path.suffix == ".md" else prose_of_python(text)
    for begin, piece in pieces:
        plain = CODE.sub(lambda match: "x" * len(match[0]), piece)
        joined = re.sub(r"\s*\n\s*(?:#\s*)?", lambda match: "\n".ljust(len(match[0]), "\0"), plain)
        spaced = joined.replace("\n", " ")
        compact = spaced.replace("\0", "")
        for pattern, advice in PATTERNS:
            for match in pattern.finditer(compact):
                line = begin + joined.count("\n", 0, places(spaced)[match.start()])
                if line not in allowed:
                    yield line, match[0].strip(), advice


def places(text: str) -> list[int]:
    """Where each character of a text stood before the NULs that fill it were taken out."""
    return [*(index for index, character in enumerate(text) if character != "\0"), len(text)]


def prose_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs outside code fences, each with its first line's number."""
    lines: list[str] = []
    begin, fenced = 1, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        if fence or fenced or not line.strip():
            if lines:
                yield begin, "\n".join(lines)
            lines, begin = [], number + 1
        else:
            lines.append(line)
        fenced ^= fence


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and the texts of errors that are raised, each with its first line's number."""
    tree = ast.parse(text)
    for node in (tree, *statements(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                yield first.lineno, first.value.value
        elif isinstance(node, ast.Raise) and node.exc is not None:
            for part in ast.walk(node.exc):
                if isinstance(part, ast.Constant) and type(part.value) is str:
                    yield part.lineno, part.value.replace("\n", " ")
    begin, lines = 0, [""]
    for number, comment in comments(text):
        if begin + len(lines) != number:
            yield begin, "\n".join(lines)
            begin, lines = number, []
        lines.append(comment.lstrip("#: "))
    yield begin, "\n".join(lines)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements inside a module or a statement, without their expressions, which are most of a tree."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, ()):
            yield child
            yield from statements(child)


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Each comment with its line's number: a regular expression takes a tenth of tokenize's time."""
    number, last = 1, 0
    for match in STRING_OR_COMMENT.finditer(text):
        number += text.count("\n", last, match.start())
        last = match.start()
        if match["comment"]:
            yield number, match["comment"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
