"""Which workers a URL of the settings names."""

from __future__ import annotations

from totes.workers.protocol import Workers


def workers_at(url: str) -> Workers:
    """The workers that `workers.url` names; a cluster is connected to when there is work for it."""
    if url == "local":
        from totes.workers.local import LocalWorkers

        return LocalWorkers()
    from totes.workers.spark import SparkWorkers

    return SparkWorkers(url)
