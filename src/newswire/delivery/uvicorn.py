"""uvicorn's HTTP/1.1 protocol with the direct path: `uvicorn --http newswire.delivery.uvicorn:DirectHttpProtocol`.

`newswire serve`, `relay` and `run` start uvicorn this way. What it does is in `newswire.delivery.fast.uvicorn`.
"""

from __future__ import annotations

from newswire.extras import Extra

with Extra("newswire.delivery.uvicorn", "server"):
    from newswire.delivery.fast.uvicorn import DirectHttpProtocol

__all__ = ["DirectHttpProtocol"]
