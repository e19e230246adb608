"""The functions as Lambda runs them: from the zip, under its runtime client, on a real source, lake and warehouse."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.aws.runtime import Outcome, Runtime
from tests.conftest import Database
from tests.contracts.shop import MODELS, SCHEMA
from tests.security.planting import PLANTED, found_in
from totes.aws.report import TABLES_MAX, Report, added_up

STAGES = ("ingest", "process", "load")
CHANGES = (
    "UPDATE \"order\" SET quantity = 5, last_updated = '2024-11-26 10:00' WHERE order_id = 1",
    "UPDATE customer SET city = 'Bath', last_updated = '2024-11-26 10:00' WHERE customer_id = 10",
    'DELETE FROM "order" WHERE order_id = 2',
)
NOTES = (
    "CREATE TABLE note (note_id integer PRIMARY KEY)",
    "INSERT INTO note VALUES (1)",
)  # no model reads it
LATER = "UPDATE \"order\" SET quantity = quantity + 1, last_updated = last_updated + interval '1 day' WHERE order_id = 3"
# Version, order, quantity, deleted, batch, current: as they are after both of these, three times over for the second.
HISTORY = [
    (1, 1, 2, False, 1, False),
    (2, 2, 1, False, 1, False),
    (3, 3, 7, False, 1, False),
    (4, 1, 5, False, 2, True),
    (5, 2, 1, True, 2, True),
    (6, 3, 8, False, 3, False),
    (7, 3, 9, False, 4, False),
    (8, 3, 10, False, 5, True),
]


class Functions:
    """The three functions, an execution environment each, over one source, lake and warehouse."""

    def __init__(self, package: Path, folder: Path, environment: dict[str, str]) -> None:
        self._package = package
        self._folder = folder
        self._environment = {
            "AWS_REGION": "us-east-1",
            "POWERTOOLS_METRICS_NAMESPACE": "Totes",
            "POWERTOOLS_SERVICE_NAME": "totes-tests",
            "TOTES_LAKE__CACHE": "/tmp/totes",
            "TOTES_LAKE__CHECKPOINTS": "true",
            **environment,
        }
        self._made: dict[str, Runtime] = {}

    def runtime(self, stage: str, name: str = "", **environment: str) -> Runtime:
        """The environment of a stage's function; another name is another function."""
        name = name or stage
        if name not in self._made:
            variables = self._environment | environment
            handler = f"totes.aws.handlers.{stage}"
            self._made[name] = Runtime(self._package, handler, variables, self._folder, name=name)
        return self._made[name]

    def call(self, stage: str, **event: Any) -> Outcome:
        """Calls a stage, and expects that it does what it should."""
        outcome = self.runtime(stage).invoke(event)
        assert not outcome.error_type, outcome
        return outcome

    def close(self) -> None:
        """Ends them all."""
        for runtime in self._made.values():
            runtime.close()


@dataclass
class Story:
    """What happened to a shop's pipeline, call by call, and the warehouse that came of it."""

    functions: Functions
    warehouse: Database
    calls: dict[str, Outcome] = field(default_factory=dict)

    def result(self, name: str) -> dict[str, Any]:
        """What a call gave back."""
        found: dict[str, Any] = self.calls[name].result
        return found


def _shop(new_database: Callable[..., Database], folder: Path) -> tuple[Database, str]:
    """A shop, and the folder of its project."""
    source = new_database()
    source.execute(*SCHEMA, *NOTES)
    (folder / "project" / "models").mkdir(parents=True)
    for name, text in MODELS.items():
        (folder / "project" / "models" / f"{name}.sql").write_text(text, encoding="utf-8")
    return source, str(folder / "project")


@pytest.fixture(scope="module")
def story(
    lambda_zip: Path,
    lambda_folder: Path,
    new_database: Callable[..., Database],
    tmp_path_factory: pytest.TempPathFactory,
    _s3_server: dict[str, str],
) -> Iterator[Story]:
    """First rows, a warehouse that is away, changes, little time, a lost environment, a table that cannot be captured."""
    source, project = _shop(new_database, tmp_path_factory.mktemp("shop"))
    warehouse, lake = new_database(), f"s3://lakes/{source.name}"
    functions = Functions(
        lambda_zip, lambda_folder,
        {
            **_s3_server,
            "TOTES_PROJECT__PATH": project, "TOTES_SOURCE__URL": source.url, "TOTES_WAREHOUSE__URL": warehouse.url,
            "TOTES_LAKE__INGESTION": f"{lake}/ingestion", "TOTES_LAKE__PROCESSED": f"{lake}/processed",
        },
    )  # fmt: skip
    told = Story(functions, warehouse)
    calls = told.calls
    try:
        ingest = functions.runtime("ingest")
        calls["killed"] = ingest.invoke({}, seconds_max=0.02)
        (ingest.tmp / "totes-left").mkdir()
        calls["ingest"] = functions.call("ingest", execution="first")
        calls["process"] = functions.call("process", execution="first")
        away = functions.runtime(
            "load", "away", TOTES_WAREHOUSE__URL="postgresql://totes@127.0.0.1:1/warehouse"
        )
        calls["away"] = away.invoke({"execution": "first"})
        source.execute(*CHANGES)
        calls["ingest changes"] = functions.call("ingest", execution="second")
        calls["process changes"] = functions.call("process", execution="second")
        calls["load"] = functions.call("load", execution="second")
        for stage in STAGES:
            calls[f"{stage} nothing"] = functions.runtime(stage).invoke(None)
        for _ in range(3):
            source.execute(LATER)
            functions.call("ingest")
        functions.runtime("process").renew()
        for stage in ("process", "load"):
            for number in (1, 2, 3):
                calls[f"{stage} {number}"] = functions.runtime(stage).invoke({}, told_seconds=0.01)
        calls["wrong event"] = functions.runtime("watch", ALERT_TOPIC_ARN="none").invoke({"failures": {}})
        source.execute("ALTER TABLE note DROP CONSTRAINT note_pkey", LATER)
        calls["refused"] = ingest.invoke({"execution": "last"})
        calls["after refusal"] = functions.call("process")
        yield told
    finally:
        functions.close()


def test_rows_reach_the_warehouse_with_their_history(story: Story) -> None:
    sql = "SELECT order_record_id, order_id, quantity, is_deleted, batch_id, valid_to IS NULL FROM fact_order ORDER BY 1"
    assert story.warehouse.execute(sql) == HISTORY
    assert story.warehouse.execute("SELECT city FROM dim_customer ORDER BY customer_id") == [
        ("Bath",),
        ("York",),
    ]


def test_a_result_tells_the_batch_and_what_changed(story: Story) -> None:
    first = story.result("ingest")
    moment = datetime.fromisoformat(first.pop("captured_at"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 600
    assert 0 < first.pop("seconds") < 60
    tables = {"customer": {"upserts": 2}, "note": {"upserts": 1}, "order": {"upserts": 3}}
    assert first == {"batch": 1, "more": False, "tables": tables}
    assert story.result("ingest changes")["tables"] == {
        "customer": {"upserts": 1},
        "order": {"upserts": 1, "deletes": 1},
    }
    processed = story.result("process changes")
    assert (processed["batch"], processed["newest"]) == (2, 2)
    assert (processed["quarantined"], processed["more"]) == (0, False)
    assert processed["tables"] == {"dim_customer": {"written": 1}, "fact_order": {"written": 2, "deleted": 1}}
    loaded = story.result("load")
    assert loaded["batch"] == 2
    assert loaded["tables"] == {"dim_customer": 3, "fact_order": 5}


def test_a_call_without_an_event_and_without_news_makes_nothing(story: Story) -> None:
    for stage in STAGES:
        result = story.result(f"{stage} nothing")
        assert (result["batch"], result["tables"], result["more"]) == (None, {}, False)


def test_a_warehouse_that_is_away_is_an_error_of_its_load_only(story: Story) -> None:
    away = story.calls["away"]
    assert away.error_type == "WarehouseError"
    assert away.error_message
    [line] = [line for line in away.log if line["level"] == "ERROR"]
    assert line["exception_name"] == "WarehouseError"
    assert line["retryable"] is True
    assert line["execution"] == "first"
    assert story.result("process changes")["batch"] == 2


def test_a_call_near_its_time_limit_stops_at_a_batch_and_says_that_there_is_more(story: Story) -> None:
    for stage in ("process", "load"):
        told = [story.result(f"{stage} {number}") for number in (1, 2, 3)]
        assert [(result["batch"], result["more"]) for result in told] == [(3, True), (4, True), (5, False)]


def test_a_call_that_is_killed_leaves_nothing_in_the_way(story: Story) -> None:
    assert story.calls["killed"].error_type == "Sandbox.Timedout"
    assert story.result("ingest")["batch"] == 1
    ingest = story.functions.runtime("ingest")
    assert not [left for folder in ingest.tmp.glob("totes-*") for left in folder.iterdir()]
    assert (ingest.tmp / "totes" / "ingestion.duckdb").is_file()


def test_a_table_that_cannot_be_captured_is_part_of_the_result_and_the_others_are_captured(
    story: Story,
) -> None:
    refused = story.calls["refused"]
    assert refused.result["batch"] == 6
    failure = refused.result["failure"]
    assert failure["tables"] == ["note"]
    assert "note" in failure["what"]
    [line] = [line for line in refused.log if line["level"] == "ERROR"]
    assert (line["execution"], line["exception_name"]) == ("last", "TablesLeftOut")
    assert story.result("after refusal")["batch"] == 6


def test_an_event_that_cannot_be_understood_is_an_error(story: Story) -> None:
    assert story.calls["wrong event"].error_type == "ConfigurationError"


def test_every_line_of_the_log_is_a_document_of_one_shape(story: Story) -> None:
    calls = [call for name, call in story.calls.items() if name != "killed"]
    for call in calls:
        for line in call.lines:
            assert line.startswith(("{", "[ERROR] ")), (
                line
            )  # the runtime client itself tells an error in its own way
        assert len({line["function_request_id"] for line in call.log}) == 1
        for line in call.log:
            assert list(line)[:5] == ["level", "location", "message", "timestamp", "service"]
            assert line["stage"] in (*STAGES, "watch")
            assert line["service"] == "totes-tests"
    [captured, *_] = story.calls["ingest"].log
    assert captured["message"] == "captured"
    assert captured["level"] == "INFO"
    assert captured["execution"] == "first"
    assert captured["cold_start"] is True
    assert {line["cold_start"] for line in story.calls["ingest changes"].log} == {False}
    assert {line["execution"] for line in story.calls["ingest changes"].log} == {"second"}
    assert all("execution" not in line for line in story.calls["ingest nothing"].log)


def test_metrics_have_the_stage_as_their_only_dimension(story: Story) -> None:
    names = {"Batches": "Count", "Rows": "Count", "DurationSeconds": "Seconds"}
    values = {"ingest changes": (1, 3), "process changes": (1, 3), "load": (2, 8), "load nothing": (0, 0)}
    for call, (batches, rows) in values.items():
        [document] = story.calls[call].metrics
        [declared] = document["_aws"]["CloudWatchMetrics"]
        assert declared["Namespace"] == "Totes"
        assert declared["Dimensions"] == [["stage"]]
        assert document["stage"] == call.split()[0]
        units = {metric["Name"]: metric["Unit"] for metric in declared["Metrics"]}
        expected = dict(names)
        if call == "process changes":
            expected["Quarantined"] = "Count"
        assert units == expected
        assert set(document) == {"_aws", "stage", *expected}
        assert (document["Batches"], document["Rows"]) == ([batches], [rows])


def test_nothing_is_written_beside_the_zip(story: Story, lambda_zip: Path) -> None:
    root = story.functions.runtime("ingest").task_root
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    with zipfile.ZipFile(lambda_zip) as archive:
        assert {name for name in there if not name.endswith(".pyc")} == set(archive.namelist())


@pytest.fixture
def with_secrets(
    lambda_zip: Path,
    lambda_folder: Path,
    new_database: Callable[..., Database],
    secrets: dict[str, str],
    tmp_path: Path,
) -> Iterator[tuple[Functions, Database]]:
    """Functions whose settings are names of secrets, over a shop; the lake is a folder."""
    source, project = _shop(new_database, tmp_path)
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    settings = {
        "TOTES_PROJECT__PATH": project, "TOTES_SOURCE__URL": "secretsmanager:source",
        "TOTES_WAREHOUSE__URL": "secretsmanager:warehouse",
        "TOTES_LAKE__INGESTION": str(tmp_path / "ingestion"), "TOTES_LAKE__PROCESSED": str(tmp_path / "processed"),
    }  # fmt: skip
    functions = Functions(lambda_zip, lambda_folder, {**aws, **settings})
    yield functions, source
    functions.close()


def test_passwords_are_never_told_and_a_new_one_is_taken_by_a_warm_function(
    with_secrets: tuple[Functions, Database], secrets: dict[str, str]
) -> None:
    functions, source = with_secrets
    role, server = f"reader_{source.name}", urlsplit(source.url)
    source.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'first-one'", f"GRANT pg_read_all_data TO {role}")

    def secret(password: str) -> str:
        parts = {"HOST": server.hostname, "PORT": server.port, "DATABASE": source.name}
        return json.dumps(
            {f"PG_{name}": value for name, value in parts.items()}
            | {"PG_USER": role, "PG_PASSWORD": password}
        )

    secrets["source"] = secret("first-one")
    pieces = _in_little_time(functions.runtime("ingest"))
    secrets["source"] = secret(PLANTED["source"])
    refused = functions.runtime("ingest").invoke({})
    assert refused.error_type == "SourceError"
    assert role in refused.error_message
    source.execute(f"ALTER ROLE {role} PASSWORD 'second-one'", LATER)
    secrets["source"] = secret("second-one")
    assert functions.call("ingest").result["batch"] == len(pieces) + 1
    assert [piece["more"] for piece in pieces] == [True, True, False]
    assert [piece["batch"] for piece in pieces] == [1, 2, 3]
    assert sorted(table for piece in pieces for table in piece["tables"]) == ["customer", "note", "order"]
    load = functions.runtime("load")
    missing = load.invoke({})
    assert missing.error_type == "ConfigurationError"
    secrets["warehouse"] = (
        f"postgresql://{role}:{quote(PLANTED['warehouse'], safe='')}@127.0.0.1:{server.port}/none"
    )
    unwelcome = load.invoke({})
    assert unwelcome.error_type == "WarehouseError"
    secrets["warehouse"] = f"postgresql://{role}:{PLANTED['warehouse']}@127.0.0.1:{server.port}/none"
    wrong = load.invoke({})
    for call in (refused, missing, unwelcome, wrong):
        told = "".join((call.error_message, *call.stack_trace, *call.lines))
        assert call.error_type
        assert found_in(told) == set()
        assert "second-one" not in told


def _in_little_time(runtime: Runtime) -> list[dict[str, Any]]:
    """What calls give that have time for one table each, until nothing is left; ten at most."""
    results: list[dict[str, Any]] = []
    while len(results) < 10 and (not results or results[-1]["more"]):
        results.append(runtime.invoke({}, told_seconds=0.001).result)
    return results


def test_a_result_of_very_many_tables_stays_small() -> None:
    tables = added_up(
        [{f"{number:04}_{'t' * 58}": {"upserts": number, "deletes": 0} for number in range(3000)}]
    )
    document = Report(1, 1, tables).as_json(1.0)
    assert len(json.dumps(document)) < 32_768
    assert len(document["tables"]) == TABLES_MAX
    assert document["tables_not_named"] == 3000 - 1 - TABLES_MAX  # nothing changed in one of them
    assert max(document["tables"]).startswith("2999_")
