"""Contracts: the events of an application, declared once. See docs/contracts.md.

A `Contract` names the events and the type of each one's data. With it a hub refuses what was not declared, readers
get typed values, and other programs get the same types: TypeScript, JSON Schema, OpenAPI and AsyncAPI. Everything here
knows events and types, and nothing of hubs, sources or servers. pydantic (the extra `contract`) is imported with the
first contract.
"""

from newswire.contract.asyncapi import asyncapi
from newswire.contract.check import StreamChecker
from newswire.contract.contract import Contract, TypedEvent
from newswire.contract.diff import Change, diff
from newswire.contract.openapi import describe, describe_fastapi, describe_litestar, item_schema
from newswire.contract.schema import json_schema
from newswire.contract.typescript import typescript

__all__ = [
    "Change",
    "Contract",
    "StreamChecker",
    "TypedEvent",
    "asyncapi",
    "describe",
    "describe_fastapi",
    "describe_litestar",
    "diff",
    "item_schema",
    "json_schema",
    "typescript",
]
