"""`RunSuite`: runs keep their promises on any log that is a `Ledger`. Subclass it like `LogSuite`:

    class TestRunsOnMyLog(RunSuite):
        @pytest.fixture
        def make_log(self, tmp_path):
            return lambda retention=None: MyLog(tmp_path / "my.log", retention=retention)

Where the log is durable, two hubs on one storage stand for two processes; else two `Runs` share one hub.
"""

from __future__ import annotations

from newswire.testing.run_attach import RunAttachTests
from newswire.testing.run_end import RunEndTests
from newswire.testing.run_produce import RunProduceTests
from newswire.testing.run_read import RunReadTests
from newswire.testing.run_time import RunTimeTests


class RunSuite(RunReadTests, RunProduceTests, RunEndTests, RunTimeTests, RunAttachTests):
    """Subclass it, with a fixture `make_log`; see the module."""
