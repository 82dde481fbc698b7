"""The contract that most tests use: every kind of type that a contract may have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

import msgspec
from pydantic import BaseModel, Field

from newswire.contract import Contract, TypedEvent


class Price(BaseModel):
    symbol: str
    value: float = Field(gt=0)


class Line(BaseModel):
    item: str
    quantity: int = Field(ge=1, alias="qty")


class Order(BaseModel):
    number: int
    total: Decimal
    placed: datetime
    lines: list[Line] = []


@dataclass
class Stock:
    item: str
    left: int


class Note(TypedDict):
    text: str
    by: NotRequired[str]


class Ping(msgspec.Struct):
    host: str
    ms: float


Event = (
    TypedEvent[Literal["price"], Price]
    | TypedEvent[Literal["order.placed"], Order]
    | TypedEvent[Literal["stock"], Stock]
    | TypedEvent[Literal["note"], Note]
    | TypedEvent[Literal["ping"], Ping]
    | TypedEvent[Literal["tags"], list[str]]
    | TypedEvent[Literal["done"], None]
)

events: Contract[Event] = Contract("shop", Event)

# The same as a mapping.
mapped = Contract(
    "shop",
    {
        "price": Price,
        "order.placed": Order,
        "stock": Stock,
        "note": Note,
        "ping": Ping,
        "tags": list[str],
        "done": None,
    },
)
