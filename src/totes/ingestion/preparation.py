"""What the source's owner has to run so that it can be captured: a role, its grants, and what capture from the log needs."""

from __future__ import annotations

from totes.config import SourceSettings
from totes.ingestion.log.preparation import log_statements
from totes.ingestion.log.session import open_log
from totes.ingestion.reader import READER, reader_statements


def source_statements(url: str, source: SourceSettings, needed: frozenset[str]) -> list[str]:
    """The statements, in order; for the log, those that are not done yet.

    They are for the role of the URL, unless that is a superuser, who should not be the one that captures.

    Raises:
        SourceError: the source cannot be reached or read.
        SourceRefused: no table can be captured.
    """
    with open_log(url, source, None, ready=False) as session:
        name, may_replicate, is_superuser = session.role()
        role = READER if is_superuser else name
        statements = reader_statements(
            session.database, source.schema_, exists=session.has_role(role), name=role
        )
        if source.capture == "query":
            return statements
        return statements + log_statements(
            session.publication(),
            session.selection(needed).tables,
            role,
            may_replicate=may_replicate and not is_superuser,
            wal_level=session.setting("wal_level"),
            keep_size=session.setting("max_slot_wal_keep_size"),
        )
