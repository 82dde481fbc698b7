"""The index that leads from a channel to the groups that subscribe to it.

Names are looked up. Patterns stand in a trie of their tokens, so a channel meets only those that match its first
tokens: 10,000 patterns of 10,000 users cost a new channel a few steps, and a subscriber that comes or goes touches its
own tokens. `docs/explain/patterns.md` explains why. The hub asks once for each event.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final, Generic, TypeVar

from newswire.hub.group import Group
from newswire.log.channels import is_internal

T = TypeVar("T")

# Channels whose answer is remembered while there are patterns, beside those that are subscribed to by name: more save
# less than a miss costs, some 2 µs.
_REMEMBERED: Final = 4096


class _Node:
    """A place in the trie: the tokens that may follow, and what ends here."""

    __slots__ = ("below", "children", "here")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}  # `*` is one of the keys, since no channel has a token of that name
        self.here: dict[object, None] = {}
        self.below: dict[object, None] = {}  # patterns whose next and last token is `>`


class PatternTrie(Generic[T]):
    """Values by channel pattern. Matches as `newswire.log.channels.compile_pattern` does."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Node()

    def __bool__(self) -> bool:
        return bool(self._root.children or self._root.below)

    def add(self, pattern: str, value: T) -> None:
        """Put `value` under a checked pattern; twice is as once."""
        node = self._root
        *tokens, last = pattern.split(".")
        for token in tokens if last == ">" else (*tokens, last):
            node = node.children.setdefault(token, _Node())
        (node.below if last == ">" else node.here)[value] = None

    def remove(self, pattern: str, value: T) -> None:
        """Take `value` from under a pattern, and what led to it alone."""
        path = [self._root]
        *tokens, last = pattern.split(".")
        if last != ">":
            tokens.append(last)
        for token in tokens:
            path.append(path[-1].children[token])
        del (path[-1].below if last == ">" else path[-1].here)[value]
        while tokens and not (path[-1].children or path[-1].here or path[-1].below):
            path.pop()
            del path[-1].children[tokens.pop()]

    def match(self, channel: str) -> dict[T, None]:
        """The values whose patterns match a channel, each once."""
        found: dict[T, None] = {}
        nodes = [self._root]
        literal = is_internal(channel)  # the first token of an internal channel matches no wildcard
        for token in channel.split("."):
            after: list[_Node] = []
            for node in nodes:
                if node.below and not literal:
                    found |= node.below  # type: ignore[arg-type]  # it holds what `add` put there
                child = node.children.get(token)
                if child is not None:
                    after.append(child)
                child = None if literal or token == "*" else node.children.get("*")
                if child is not None:
                    after.append(child)
            if not after:
                return found
            nodes = after
            literal = False
        for node in nodes:
            found |= node.here  # type: ignore[arg-type]
        return found


class ChannelIndex:
    """Which groups want a channel's events."""

    def __init__(self) -> None:
        # A channel of one group, such as a private one, has a tuple of it: a dictionary would weigh four times as much.
        self._named: dict[str, tuple[Group] | dict[Group, None]] = {}
        self._trie: PatternTrie[Group] = PatternTrie()
        self._patterned: dict[Group, None] = {}
        # What channels are found to match, in the present generation of patterns. It is a cache: channels come and go.
        self._resolved: dict[str, tuple[int, Collection[Group]]] = {}
        self._generation = 0
        # By a part of a channel's hash, another part of it. A channel that came only once is not worth remembering,
        # unless it is subscribed to by name.
        self._asked = bytearray(_REMEMBERED)

    def add(self, group: Group) -> None:
        """Take in a group."""
        for name in group.channels.names:
            groups = self._named.get(name)
            if groups is None:
                self._named[name] = (group,)
            elif isinstance(groups, tuple):
                self._named[name] = dict.fromkeys((*groups, group))
            else:
                groups[group] = None
            self._resolved.pop(name, None)
        if group.channels.patterns:
            self._patterned[group] = None
            self._generation += 1
            for pattern in group.channels.patterns:
                self._trie.add(pattern, group)

    def remove(self, group: Group) -> None:
        """Let a group go."""
        for name in group.channels.names:
            groups = self._named[name]
            if not isinstance(groups, tuple):
                del groups[group]
            if isinstance(groups, tuple) or not groups:
                del self._named[name]
            self._resolved.pop(name, None)
        if group.channels.patterns:
            del self._patterned[group]
            self._generation += 1
            for pattern in group.channels.patterns:
                self._trie.remove(pattern, group)
            if not self._patterned:
                self._resolved.clear()

    def groups(self, channel: str) -> Collection[Group]:
        """The groups that want this channel's events. Don't change it, nor the index while you iterate."""
        if not self._patterned:
            return self._named.get(channel, ())
        generation, groups = self._resolved.get(channel, (-1, ()))
        if generation != self._generation:
            found, named = self._trie.match(channel), self._named.get(channel, ())
            groups = found | dict.fromkeys(named) if found else named
            mark, place = divmod(hash(channel), _REMEMBERED)
            if named or self._asked[place] == mark & 255:
                if len(self._resolved) >= _REMEMBERED + len(self._named):
                    self._resolved.clear()
                self._resolved[channel] = self._generation, groups
            else:
                self._asked[place] = mark & 255
        return groups

    def names(self) -> list[str]:
        """The names that are subscribed to."""
        return list(self._named)

    def patterns(self) -> dict[str, int]:
        """The patterns that are subscribed to, with their subscribers."""
        found: dict[str, int] = {}
        for group in self._patterned:
            for pattern in group.channels.patterns:
                found[pattern] = found.get(pattern, 0) + group.size
        return found

    def subscribed(self, limit: int | None = None) -> dict[str, int]:
        """The names and patterns that are subscribed to (at most `limit` of each), with their subscribers."""
        found = {name: sum(group.size for group in groups) for name, groups in islice(self._named.items(), limit)}
        for group in islice(self._patterned, limit):
            for pattern in group.channels.patterns:
                found[pattern] = found.get(pattern, 0) + group.size
        return found
