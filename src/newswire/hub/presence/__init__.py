"""Presence: the members of a channel, over all processes with the same log; docs/explain/presence.md has the design.

`member` has what applications give and get, `names` the channels in the log, `roster` what was read of them. `node` is
this process's part: it stores who is here, renews its lease, and judges other nodes. `presences` ties it to a hub.
"""
