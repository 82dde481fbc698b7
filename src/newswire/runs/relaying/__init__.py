"""Relays: completions of an upstream API as runs, so that they can be resumed, stopped and watched by many."""

from newswire.runs.relaying.app import Relay
from newswire.runs.relaying.options import RelayOptions
from newswire.runs.relaying.relay import relay
from newswire.runs.relaying.stats import RelayStats
from newswire.runs.relaying.upstream import Upstream

__all__ = ["Relay", "RelayOptions", "RelayStats", "Upstream", "relay"]
