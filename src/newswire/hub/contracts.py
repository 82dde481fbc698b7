"""Which contract a channel has: one for all channels, or one for each pattern.

`Hub` asks it for each event that is published, and an iterator for each that is read. A hub without contracts has none
of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

from newswire.contract.contract import Contract
from newswire.log.channels import check_pattern, compile_pattern, is_internal
from newswire.validate import shown
from newswire.wire.event import Event
from newswire.wire.payload import to_event
from newswire.wire.reserved import is_reserved

E = TypeVar("E", covariant=True)

ContractRules: TypeAlias = Contract[E] | Mapping[str, Contract[E]]

_REMEMBERED: Final = 4096  # channels whose contract is remembered


class Contracts(Generic[E]):
    """The contracts of a hub's channels.

    Args:
        rules: one for every channel, or a mapping from names and patterns of channels: the first that matches counts. A
            channel that none matches takes any event. So do internal channels.
    """

    def __init__(self, rules: ContractRules[E]) -> None:
        if isinstance(rules, Contract):
            rules = {">": rules}
        if not isinstance(rules, Mapping):
            raise TypeError(f"contract is a Contract, or a mapping from patterns to Contracts, not {shown(rules)}")
        for pattern, contract in rules.items():
            if not isinstance(contract, Contract):
                raise TypeError(f"the contract of {pattern!r} is a Contract, not {contract!r:.60}")
        self._rules = [(compile_pattern(check_pattern(pattern)), contract) for pattern, contract in rules.items()]
        self._found: dict[str, Contract[E] | None] = {}

    def of(self, channel: str) -> Contract[E] | None:
        """The contract of a channel, if it has one."""
        try:
            return self._found[channel]
        except KeyError:
            pass
        found = None
        if not is_internal(channel):
            found = next((contract for pattern, contract in self._rules if pattern.fullmatch(channel)), None)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[channel] = found
        return found

    def encode(self, channel: str, data: Any, event: str | None) -> Event:
        """Make the event to publish; see `newswire.wire.payload.to_event` and `Contract.encode`.

        Raises:
            InvalidEvent: it can't be published there.
        """
        contract = self.of(str(channel))  # the log refuses what is no name
        if contract is None:
            return to_event(data, event)
        return contract.encode(data, None if event == "message" else event)

    def read(self, event: Event) -> Any:
        """What a reader gets: a `TypedEvent` where the channel has a contract, else the event itself. None: nothing.

        Raises:
            BadPayload, EventsLost: see `Contract.read`.
        """
        if event.channel is not None:
            contract = self.of(event.channel)
        elif len(self._rules) == 1 and is_reserved(event.event):  # newswire's own, which has no channel
            contract = self._rules[0][1]
        else:
            contract = None
        return event if contract is None else contract.read(event)
