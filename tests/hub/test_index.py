"""The trie of patterns finds what their regular expressions match, and holds no more than what was put in."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hub.test_hub_life import Connection

from newswire import Hub, Pattern, StreamOptions
from newswire.hub.index import ChannelIndex, PatternTrie
from newswire.log.channels import Channels, compile_pattern

TOKENS = ["a", "b", "ab", "$a", "$", "é", "0"]
names = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=5).map(".".join)
patterns = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(st.sampled_from([*TOKENS[:3], "$a", "*", "*"]), min_size=1, max_size=4),
    st.sampled_from([[], [">"]]),
) | st.just(">")


@pytest.mark.slow
@given(st.lists(st.tuples(patterns, st.integers(0, 3))), st.lists(st.integers(0, 100)), st.lists(names, min_size=1))
def test_it_matches_as_the_regular_expressions_do(
    added: list[tuple[str, int]], removed: list[int], channels: list[str]
) -> None:
    """After any adding and removing, for any channel; a value under several matching patterns comes once."""
    trie: PatternTrie[int] = PatternTrie()
    kept = dict.fromkeys(added)
    for pattern, value in added:
        trie.add(pattern, value)
    for index in removed:
        if kept:
            pattern, value = list(kept)[index % len(kept)]
            del kept[pattern, value]
            trie.remove(pattern, value)
    assert bool(trie) == bool(kept)
    for channel in channels:
        expected = {value for pattern, value in kept if compile_pattern(pattern).fullmatch(channel)}
        found = trie.match(channel)
        assert set(found) == expected
    for pattern, value in list(kept):
        trie.remove(pattern, value)
    assert not trie


class Group:
    """As much of a group as the index looks at."""

    def __init__(self, *channels: str) -> None:
        self.channels = Channels(channels)
        self.size = 1


@pytest.mark.slow
@given(st.lists(st.tuples(st.sets(names, max_size=2), st.sets(patterns, max_size=2), st.booleans())), st.lists(names))
def test_the_index_knows_who_wants_a_channel(steps: list[tuple[set[str], set[str], bool]], channels: list[str]) -> None:
    """By name and by pattern, each group once, while groups come and go between the questions."""
    index = ChannelIndex()
    groups: list[Group] = []
    for named, wild, leave in steps:
        if leave and groups:
            index.remove(groups.pop(0))  # type: ignore[arg-type]
        elif named or wild:
            groups.append(Group(*named, *map(Pattern, wild)))
            index.add(groups[-1])  # type: ignore[arg-type]
        for channel in channels:
            found = list(index.groups(channel))
            assert len(found) == len(set(found))
            assert set(found) == {group for group in groups if channel in group.channels}


def test_what_it_visits_does_not_grow_with_the_patterns_that_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel of one user among ten thousand asks for the tokens on its own way, and no others."""
    trie: PatternTrie[int] = PatternTrie()
    for number in range(10_000):
        trie.add(f"user.{number}.>", number)
        trie.add(f"*.{number}.inbox", -number)
    asked = 0

    class Counting(dict):  # type: ignore[type-arg]
        def get(self, *key):  # type: ignore[no-untyped-def]
            nonlocal asked
            asked += 1
            return super().get(*key)

    def watch(node) -> None:  # type: ignore[no-untyped-def]
        node.children = Counting(node.children)
        for child in node.children.values():
            watch(child)

    watch(trie._root)
    assert set(trie.match("user.4711.inbox")) == {4711, -4711}
    assert asked < 20


def test_a_name_that_no_channel_can_have_is_cheap_too() -> None:
    """What asks with wildcards for a channel gets no answer in exponential time."""
    trie: PatternTrie[int] = PatternTrie()
    trie.add(".".join("*" * 100), 1)
    assert set(trie.match(".".join("*" * 100))) == {1}


def test_a_channel_that_is_subscribed_to_by_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many private channels take turns beside a pattern: each is matched at its first event only."""
    index = ChannelIndex()
    index.add(Group(Pattern("record.>")))  # type: ignore[arg-type]
    names = [f"out.{number}" for number in range(6_000)]
    for name in names:
        index.add(Group(name))  # type: ignore[arg-type]
    for name in names:
        index.groups(name)
    monkeypatch.delattr(PatternTrie, "match")
    for name in names:
        (group,) = index.groups(name)
        assert name in group.channels


@pytest.mark.slow
def test_names_that_come_once_are_not_kept() -> None:
    """Twenty thousand channels leave the index of a pattern's subscriber as small as five thousand do."""
    index = ChannelIndex()
    index.add(Group(Pattern("user.*")))  # type: ignore[arg-type]
    tracemalloc.start()
    for number in range(20_000):
        assert len(index.groups(f"user.{number}")) == 1
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 800_000


@pytest.mark.anyio
async def test_an_idle_subscriber_of_a_pattern_remembers_no_names() -> None:
    """Many channels that were seen by a scan of the window leave nothing with the group that looked."""
    async with Hub() as hub:
        first = await hub.publish("other", "x")
        await hub.publish_many([(f"user.{number}", "x" * 100) for number in range(5_000)])

        async def read_all(*wanted: str) -> Connection:
            sink = Connection()
            sink.subscription = hub.subscribe(*wanted, after=first)
            await sink.subscription.open()
            sink.subscription.attach(sink, StreamOptions())
            while len(sink.events) < 5_000:
                await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0)  # the turns end
            sink.events.clear()
            sink.text = ""
            return sink

        await read_all(Pattern("user.*"))  # the frames keep their encodings for others
        tracemalloc.start()
        another = await read_all(Pattern("user.*"), "a.group.of.its.own")
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 50_000
        assert another.subscription.channels.patterns
