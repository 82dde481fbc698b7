"""The doctor's checks as a pytest fixture: `pytest_plugins = ["newswire.testing.doctor"]` in a conftest.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest

from newswire.doctor import Patient, examine


@pytest.fixture
def check_stream() -> Callable[..., Awaitable[None]]:
    """`await check_stream(url, seconds=20, ignore=[...])` fails where `newswire doctor` would find something.

    Further keyword arguments are those of `newswire.doctor.Patient`. `ignore` has codes of findings.
    """

    async def check(url: str, *, ignore: Collection[str] = (), **patient: Any) -> None:
        report = await examine(Patient(url=url, **patient))
        if report.unreachable is not None:
            pytest.fail(f"{url} can't be reached: {report.unreachable}", pytrace=False)
        wrong = [each for each in report.findings if each.code not in ignore]
        if wrong:
            listed = "\n\n".join(f"{each.code}: {each.what}\n{each.cure}" for each in wrong)
            pytest.fail(f"{url}: {len(wrong)} findings\n\n{listed}", pytrace=False)

    return check
