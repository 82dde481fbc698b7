"""Relays: completions of an upstream API as runs, so that they can be resumed, stopped and watched by many."""

from newswire.relay.app import Relay
from newswire.relay.options import RelayOptions
from newswire.relay.start import relay
from newswire.relay.upstream import Upstream
from newswire.relay.upstream_call import RelayStats

__all__ = ["Relay", "RelayOptions", "RelayStats", "Upstream", "relay"]
