"""A log that is another newswire server, the origin: `Hub("https://origin.example/")`. Needs `newswire[client]`."""

from newswire.extras import Extra

with Extra("a log on another server", "client"):
    from newswire.edge.engine import EdgeLog

__all__ = ["EdgeLog"]
