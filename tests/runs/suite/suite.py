"""`RunSuite`: runs keep their promises on any log that can append under a condition. A new engine passes it by a class:

    class TestRunsOnMyLog(RunSuite):
        @pytest.fixture
        def make_log(self, tmp_path):
            return lambda retention=None: MyLog(tmp_path / "my.log", retention=retention)

Where the log is durable, two hubs on one storage stand for two processes; else two `Runs` share one hub.
"""

from __future__ import annotations

from tests.runs.suite.attach import RunAttachTests
from tests.runs.suite.end import RunEndTests
from tests.runs.suite.produce import RunProduceTests
from tests.runs.suite.read import RunReadTests
from tests.runs.suite.time import RunTimeTests


class RunSuite(RunReadTests, RunProduceTests, RunEndTests, RunTimeTests, RunAttachTests):
    """Subclass it, with a fixture `make_log`; see the module."""
