"""What `newswire log info` says of a stream: above all, what of it survives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from newswire.log.engine import Info
from newswire.log.nats.stream import Stream

_NS = 10**9


async def info_of(stream: Stream) -> Info:
    """See `Engine.info`."""
    found = await stream.look()
    config, state = found["config"], found["state"]
    replicas = int(config.get("num_replicas", 1))
    version = str((config.get("metadata") or {}).get("_nats.ver", ""))
    return Info(
        storage=f"NATS JetStream {stream.link.version or version}, stream {stream.name}",
        settings={
            "storage": str(config.get("storage", "file")),
            "replicas": str(replicas),
            "sync_interval": "unknown (a server tells it to its operators only); 2m unless it is set",
            "duplicate_window": f"{config.get('duplicate_window', 0) // _NS} s",
        },
        risks=_risks(config, replicas),
        retention=_retention(config),
        events=int(state["messages"]),
        size=int(state["bytes"]),
    )


def _risks(config: Mapping[str, Any], replicas: int) -> list[str]:
    risks = []
    if config.get("storage") == "memory":
        risks.append("the stream is in memory: every event is gone when its servers end")
    risks.append(
        "a power cut, or a crash of the machine, can take what was acknowledged in the last two minutes, unless the "
        "server has sync_interval: always in its jetstream block"
    )
    if replicas == 1:
        risks.append("one server has the events: with its disk they are gone. Use replicas=3 in a cluster")
    return risks


def _retention(config: Mapping[str, Any]) -> str:
    """The limits of the stream, in words."""
    limits = {
        "max_age": (config.get("max_age") or 0) / _NS,
        "max_events": config.get("max_msgs", -1),
        "max_bytes": config.get("max_bytes", -1),
    }
    kept = ", ".join(f"{name}={value:g}" for name, value in limits.items() if value > 0)
    return f"of all channels together: {kept}" if kept else ""
