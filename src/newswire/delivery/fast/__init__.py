"""What makes streams cheaper by private things of uvicorn, Starlette and asyncio.

Streams are right without any of it. Each module says what it saves, what it relies on, and what happens when that is
gone: a slower stream and one line in the log, never a broken one. `NEWSWIRE_FAST=off` in the environment turns all of
it off; that is for tests, which run both ways.
"""

from __future__ import annotations

import os
from typing import Final

ENABLED: Final = os.environ.get("NEWSWIRE_FAST") != "off"
