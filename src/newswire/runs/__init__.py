"""Runs: answers and jobs that outlive the request that started them."""

from newswire.runs.dialects import DIALECTS, End
from newswire.runs.options import RunOptions, WorkerOptions
from newswire.runs.parts import (
    Data,
    Finish,
    Part,
    Progress,
    Reasoning,
    Text,
    ToolCall,
    ToolInput,
    ToolOutput,
    Usage,
)
from newswire.runs.reading.run import Run
from newswire.runs.response import RunAccepted, RunResponse
from newswire.runs.runs import Runs
from newswire.runs.stats import RunStats
from newswire.runs.store.record import ANYONE
from newswire.runs.worker.writer import RunWriter

__all__ = [
    "Runs",
    "Run",
    "RunWriter",
    "RunOptions",
    "RunResponse",
    "RunAccepted",
    "WorkerOptions",
    "End",
    "ANYONE",
    "DIALECTS",
    "RunStats",
    "Part",
    "Text",
    "Reasoning",
    "ToolCall",
    "ToolInput",
    "ToolOutput",
    "Usage",
    "Finish",
    "Progress",
    "Data",
]
