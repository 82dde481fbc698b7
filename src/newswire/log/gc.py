"""Events kept in memory, out of the garbage collector's sight.

CPython's collector looks again and again at every container that lives long, in pauses that stop everything: a hub
that keeps 100,000 events paused its loop for 180 ms at a time, and spent a quarter of its CPU so. An event's containers
hold text and numbers only, and can't be part of a cycle; reference counting frees them. So the collector need not know
them. Elsewhere than on CPython this does nothing.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any


def _find() -> Callable[[Any], object]:
    if sys.implementation.name != "cpython":
        return lambda _: None
    # Part of the stable ABI; https://docs.python.org/3/c-api/gcsupport.html
    call = ctypes.pythonapi.PyObject_GC_UnTrack
    call.argtypes = [ctypes.py_object]
    call.restype = None
    return call


untrack: Callable[[Any], object] = _find()
"""Call it once with a container that was just made, and that never refers to anything which could refer back to it."""
