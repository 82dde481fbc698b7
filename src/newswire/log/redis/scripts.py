"""What the server does in one step: scripts, each atomic, and the keys that they use. A `RedisLink` runs them.

All keys of a log have one prefix, `{namespace}:`, so that a cluster has them in one place:

* `meta`, a hash: `epoch`, `latest` (the newest offset), `time` (of the newest event), `run` (the server process that it
  was written by), `lives` (as text), `broke` (the newest offset before the clock was set back), `forgets` (how often
  channels were forgotten), `rules` (those of retention by which channels are `due`).
* `log`, a stream: all events. Their ids are their offsets, so that a server that is behind refuses the next one.
* `c:NAME`, a list: the offsets of a channel's events.
* `bytes`, a hash: how large the data of each channel's events is together, and one more for each event.
* `lost`, a sorted set: the newest offset that a channel lost.
* `empty`, a sorted set: the same, of the channels that have nothing left.
* `shapes` and `born`, hashes: what is known of forgotten channels (`newswire.log.forgotten`), and the newest offset
  before the first event of channels that came after the first was forgotten.
* `due`, a sorted set: when retention has to look at a channel, in microseconds; -inf: at once.
* `w:ID`: the last call of a writing process, and its outcome, for the case that the answer was lost. A process has two,
  by turns, since the server may have two of its calls at once.
* `writers`, a sorted set: when it was last seen which call that is, by the server's clock.
* `keeper`: which process enforces retention.
* `t:TOKEN`: the first offset of the batch with this token, and the number of its events.
* `tokens`, a sorted set: when each was given, by the server's clock.
* `now`: tells the server's clock.

Only `keeper` and `now` have an expiry: where memory is full, a server with a `volatile-…` policy evicts nothing else.

Times are microseconds since the Unix epoch. Lua counts in doubles: offsets are exact up to 2^53.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from newswire.log.engine import TOKEN_SECONDS

KEYS: Final = ("meta", "log", "bytes", "lost", "due", "keeper", "empty", "shapes", "born")
WRITER: Final = "w:"
CHANNEL: Final = "c:"
TOKEN: Final = "t:"
KNOWN_MS: Final = int(TOKEN_SECONDS * 1000)  # how long calls and tokens are known


class Script:
    """A script as the server knows it: a file of the folder `lua`, after those that it needs.

    Args:
        frees: whether it has to run where the server's memory is full, too: it frees some, or comes before all reading.

    Attributes:
        text: Lua.
        sha: by which it is called.
        full: what to call in its place where the memory is full, which the server lets through; None: nothing.
    """

    def __init__(self, name: str, *needs: str, frees: bool = False) -> None:
        folder = files(__package__) / "lua"
        self.text: str = "".join((folder / f"{each}.lua").read_text("utf-8") for each in ("head", *needs, name))
        self.sha: str = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        # Only then: with flags a server refuses the whole script, not only its writes, where it can't save.
        self.full: str | None = f"#!lua flags=allow-oom\n{self.text}" if frees else None


APPEND: Final = Script("append", "known")
ENTER: Final = Script("enter", frees=True)
STATE: Final = Script("state")
PAGE: Final = Script("page", "doubtful")
SCAN: Final = Script("scan", "doubtful")
NEWEST: Final = Script("newest")
DROP: Final = Script("drop", "remove", frees=True)
DUE: Final = Script("due", frees=True)
LOOK: Final = Script("look", frees=True)
TRIM: Final = Script("trim", "remove", frees=True)
FORGET: Final = Script("forget", frees=True)
SWEEP: Final = Script("sweep", "known", frees=True)
RESTORE: Final = Script("restore")
LOSE: Final = Script("lose")
