"""What newswire raises in a view, as an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponse  # type: ignore[import-untyped]

from newswire.delivery.problem import Problem, as_problem
from newswire.errors import NewswireError


class ProblemMiddleware:
    """Answers what newswire raises in a view with its problem: a bad name with 400, a log that is away with 503.

    Add `"newswire.integrations.django.ProblemMiddleware"` to `MIDDLEWARE`.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Pass the request on."""
        return self._get_response(request)

    def process_exception(self, request: Any, error: Exception) -> HttpResponse | None:
        """Called by Django with what a view raised."""
        if not isinstance(error, (Problem, NewswireError)):
            return None
        problem = as_problem(error)
        return HttpResponse(problem.body(), status=problem.status, headers=problem.headers)
