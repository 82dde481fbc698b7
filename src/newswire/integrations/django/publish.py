"""Publishing from Django's ORM: an event is there if, and only if, the transaction around it commits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction  # type: ignore[import-untyped]
from django.db.models.signals import post_delete, post_save  # type: ignore[import-untyped]

from newswire.errors import InvalidConnection
from newswire.integrations.django.config import hub
from newswire.validate import shown


def publish(channel: str, data: Any, *, event: str | None = None, using: str = DEFAULT_DB_ALIAS) -> None:
    """Publish to the project's hub, from a thread: a view, a signal, a task, `sync_to_async`.

    Outside a transaction the event is stored when this returns. In a transaction it is stored with that, in the order
    of the commits, if the log is in the same database (`newswire.Hub.publish` with `connection`); with another log it
    is published right after the commit, and a crash in between loses it.

    Args:
        channel: its name.
        data: see `newswire.Hub.publish`.
        event: its type.
        using: the database of the transaction.

    Raises:
        NewswireError: see `newswire.Hub.publish`.
    """
    sync = hub().sync
    more = {} if event is None else {"event": event}
    connection = connections[using]
    if _is_direct(connection):
        sync.publish(channel, data, **more)
        return
    try:
        sync.publish(channel, data, connection=connection, **more)
    except InvalidConnection:
        hub().events_of([(channel, data)])  # what can't be published is an error now, where it can be handled
        transaction.on_commit(partial(sync.publish, channel, data, **more), using=using)


def _is_direct(connection: Any) -> bool:
    """Whether an event needs no connection: there is no transaction, and none that it could overtake.

    PostgreSQL's outbox is read some milliseconds after the commit, so there everything goes through it.
    """
    idle = not connection.in_atomic_block and connection.get_autocommit()
    return idle and connection.vendor != "postgresql"


def publish_saves(
    model: type[Any],
    channel: str | Callable[[Any], str],
    *,
    data: Callable[[Any], Any] | None = None,
    saved: str = "saved",
    deleted: str | None = "deleted",
) -> None:
    """Publish each save and each deletion of a model's instances, with the transaction that does it.

    Call it once, in the `ready` of your `AppConfig`. Queries that change rows without their instances (`update`,
    `bulk_create`) and fixtures send no such signals.

    Args:
        model: the model.
        channel: its name, or a function that makes it of an instance.
        data: what to publish of an instance; by default its primary key, as `{"pk": 1}`.
        saved: the type of the events.
        deleted: the same for deletions; None: they are not published.

    Raises:
        TypeError: `channel` is neither a text nor a function, or `data` is no function.
    """
    if not (isinstance(channel, str) or callable(channel)):
        raise TypeError(f"channel is a name, or a function that makes it of an instance, not {shown(channel)}")
    if data is not None and not callable(data):
        raise TypeError(f"data is a function that says what to publish of an instance, not {shown(data)}")
    name = channel if callable(channel) else (lambda instance: channel)
    content = data or (lambda instance: {"pk": instance.pk})

    def on_save(instance: Any, using: str, raw: bool = False, **more: object) -> None:
        if not raw:
            publish(name(instance), content(instance), event=saved, using=using)

    def on_delete(instance: Any, using: str, **more: object) -> None:
        publish(name(instance), content(instance), event=deleted, using=using)

    post_save.connect(on_save, sender=model, weak=False, dispatch_uid=("newswire saved", model, saved))
    if deleted is not None:
        post_delete.connect(on_delete, sender=model, weak=False, dispatch_uid=("newswire deleted", model, deleted))
