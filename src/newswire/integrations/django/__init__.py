"""Django: streams in views, publishing with a transaction's commit, and an application with newswire's routes.

    INSTALLED_APPS = [..., "newswire.integrations.django"]
    NEWSWIRE = {"SERVER": "https://live.example.org", "SECRET": "..."}  # see `config`

Without that, `stream` works in an async view, with a hub of your own. With it, `hub()` is the project's hub: by default
its log is in the project's own database.
"""

from __future__ import annotations

try:
    import django as _django  # type: ignore[import-untyped]  # noqa: F401
except ImportError as _error:
    raise ImportError("newswire.integrations.django needs Django: pip install django") from _error

from newswire.integrations.django.asgi import asgi_application
from newswire.integrations.django.config import hub
from newswire.integrations.django.problems import ProblemMiddleware
from newswire.integrations.django.publish import publish, publish_saves
from newswire.integrations.django.streams import redirect, stream

__all__ = ["ProblemMiddleware", "asgi_application", "hub", "publish", "publish_saves", "redirect", "stream"]
