"""The suite that every log engine passes: newswire's own and anybody's.

    from newswire.testing import LogSuite

    class TestMyLog(LogSuite):
        @pytest.fixture
        def make_log(self, tmp_path):
            return lambda **options: Log(MyEngine(tmp_path / "my.log", **options))  # retention=, clock=

Each call of what `make_log` returns makes a log on the same storage, which is empty when a test begins. For a log that
forgets everything when it is closed, set `durable = False` in the class. Needs pytest with anyio's plugin (installed
with anyio); names each promise of `newswire.log.engine` in the test that shows it.
"""

from __future__ import annotations

from newswire.testing.log_append import AppendTests, ConditionTests
from newswire.testing.log_keep import KeepTests
from newswire.testing.log_read import FollowTests, ReadTests
from newswire.testing.log_submit import SubmitTests
from newswire.testing.log_walk import WalkTests


class LogSuite(AppendTests, ConditionTests, SubmitTests, ReadTests, FollowTests, KeepTests, WalkTests):
    """Subclass it, with a fixture `make_log`; see the module.

    Attributes:
        durable: whether a log that was closed can be made again, with all that was in it (default True).
        per_channel: whether retention counts for each channel (default True). An engine with one limit for the whole
            log has False: the tests then ask what holds for such a log.
        clocked: whether `make_log` takes a `clock`, a function that returns the time (default True).
        tailed_first: whether a tail gets what its log object stores before the publisher goes on (default True).
    """
