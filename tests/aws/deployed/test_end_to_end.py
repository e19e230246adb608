"""The deployed state machine runs the deployed zip, from a real PostgreSQL into a real PostgreSQL.

Each function has the credentials of its own role, and IAM is enforced: what they do here, their policies allow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.aws.deployed.cloud import REGION, Cloud, FunctionFailed
from tests.aws.deployed.conftest import Pipeline
from tests.aws.deployed.names import BUCKETS, FUNCTIONS, NAME, SECRETS, STAGES, TOPIC
from tests.aws.deployed.terraform import Deployment
from tests.aws.runtime import Outcome, Runtime
from tests.conftest import Command, Database
from totes.lake.manifest import IngestionManifest


class Outcomes(list[Outcome]):
    """What the functions' calls gave, in order; with `told_seconds`, they are told that they have so much time."""

    told_seconds: float | None = None


@pytest.fixture
def outcomes(cloud: Cloud, pipeline: Pipeline, tmp_path: Path, lambda_folder: Path) -> Iterator[Outcomes]:
    """Each function in an execution environment, with the zip, the variables and the role that it was deployed with, over
    an empty lake; gives what their calls gave, in order.
    """
    empty_lake(cloud)
    client = cloud.client("lambda")
    made: dict[str, Runtime] = {}
    found = Outcomes()
    [package] = cloud.client("s3").list_objects_v2(Bucket=BUCKETS["code"])["Contents"]
    zip_file = tmp_path / package["Key"]
    cloud.client("s3").download_file(BUCKETS["code"], package["Key"], str(zip_file))
    for stage in FUNCTIONS:
        name = f"{NAME}-{stage}"
        function = client.get_function_configuration(FunctionName=name)
        role = cloud.assume(function["Role"].rpartition("/")[2])
        variables = function["Environment"]["Variables"] | {
            **cloud.environment,
            "AWS_ACCESS_KEY_ID": role["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": role["SecretAccessKey"],
            "AWS_SESSION_TOKEN": role["SessionToken"],
        }
        made[stage] = Runtime(
            zip_file, function["Handler"], variables, tmp_path, name=name, memory_mb=function["MemorySize"]
        )
        cloud.functions[stage] = calls(made[stage], function["Timeout"], found)
    yield found
    for runtime in made.values():
        runtime.close()


def calls(
    runtime: Runtime, seconds_max: float, outcomes: Outcomes
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function, as Lambda calls it."""

    def call(event: dict[str, Any]) -> dict[str, Any]:
        outcome = runtime.invoke(event, seconds_max, told_seconds=outcomes.told_seconds)
        outcomes.append(outcome)
        if outcome.error_type:
            raise FunctionFailed(outcome.error_type, outcome.error_message)
        return dict(outcome.result)

    return call


def empty_lake(cloud: Cloud) -> None:
    """Removes every version of every object, as the account's owner may and the pipeline may not."""
    for store in ("ingestion", "processed"):
        for version in cloud.client("s3").list_object_versions(Bucket=BUCKETS[store]).get("Versions", []):
            where = {"Bucket": BUCKETS[store], "Key": version["Key"], "VersionId": version["VersionId"]}
            cloud.client("s3").delete_object(**where)


def watched(cloud: Cloud) -> set[tuple[str, str, str]]:
    """The metrics of the pipeline's own that alarms look at and functions emit, each with its dimensions."""
    return {
        (
            alarm["Namespace"],
            alarm["MetricName"],
            json.dumps({d["Name"]: d["Value"] for d in alarm["Dimensions"]}),
        )
        for alarm in cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
        if alarm["Namespace"].startswith("Totes/")
    }


def emitted(outcomes: list[Outcome]) -> set[tuple[str, str, str]]:
    """The metrics that the functions' log lines hold, each with its dimensions."""
    return {
        (directive["Namespace"], metric["Name"], json.dumps({name: line[name] for name in names}))
        for outcome in outcomes
        for line in outcome.metrics
        for directive in line["_aws"]["CloudWatchMetrics"]
        for names in directive["Dimensions"]
        for metric in directive["Metrics"]
    }


def put_secrets(cloud: Cloud, **urls: str) -> None:
    for which, url in urls.items():
        cloud.client("secretsmanager").put_secret_value(SecretId=SECRETS[which], SecretString=url)


def test_rows_arrive_and_so_do_changes(
    cloud: Cloud,
    pipeline: Pipeline,
    outcomes: Outcomes,
    request: pytest.FixtureRequest,
    totes: Callable[..., Command],
    totesys: Database,
    database: Database,
    tmp_path: Path,
) -> None:
    put_secrets(cloud, source=totesys.url, warehouse=database.url)

    # A first load that is larger than a function's time: each call gets as far as one table.
    outcomes.told_seconds = 0.001
    execution = pipeline.start()
    first = pipeline.wait(execution)
    outcomes.told_seconds = None
    assert first["status"] == "SUCCEEDED", "".join(m for _, m in cloud.notifications(TOPIC))
    said = json.loads(first["output"])
    assert [said[stage]["batch"] for stage in STAGES] == [11, 11, 11]
    assert Counter(pipeline.states(execution)) >= Counter({"Ingest": 11, "Process": 11, "Load": 11})
    assert (
        sum(outcome.result["tables"].get("sales_order", {}).get("upserts", 0) for outcome in outcomes[:11])
        == 200
    )
    assert sum(outcome.result.get("quarantined", 0) for outcome in outcomes) == 0
    assert database.execute("SELECT count(*) FROM fact_sales_order") == [(200,)]

    totesys.execute(
        "UPDATE sales_order SET units_sold = 4711, last_updated = now() WHERE sales_order_id = 1",
        "UPDATE department SET location = 'Leeds', last_updated = now() WHERE department_id = 1",
    )
    second = pipeline.run()
    assert second["status"] == "SUCCEEDED", second
    said = json.loads(second["output"])
    assert said["ingest"]["tables"] == {
        "department": {"upserts": 1},
        "sales_order": {"upserts": 1},
    }
    assert database.execute(
        "SELECT count(*), count(valid_to), max(units_sold) = 4711 FROM fact_sales_order WHERE sales_order_id = 1"
    ) == [(2, 1, True)]

    assert watched(cloud) <= emitted(outcomes)
    third = json.loads(pipeline.run()["output"])
    assert [third[stage]["batch"] for stage in STAGES] == [None, None, None]

    # The same commands from a laptop, with the settings that Terraform gives out when it is through.
    deployment: Deployment = request.getfixturevalue("deployment")
    (tmp_path / "totes.toml").write_text(deployment.run("output", "-raw", "settings"), encoding="utf-8")

    def told(*arguments: str) -> Any:
        command = totes(*arguments, "--json", **cloud.environment)
        assert command.code == 0, command.err
        return json.loads(command.out)

    assert {stage: one["batch"] for stage, one in told("status")["stages"].items()} == dict.fromkeys(
        STAGES, 12
    )
    assert [v["units_sold"] == 4711 for v in told("history", "fact_sales_order", "1")["versions"]] == [
        False,
        True,
    ]
    assert all(table["equal"] for table in told("verify")["tables"].values())
    copy = f"duckdb:///{tmp_path}/copy.duckdb"
    assert told("replay", "--warehouse", copy)["batch"] == 12
    assert told("backup", str(tmp_path / "backup"))["processed"]["batch"] == 12


def test_an_incident_is_reported_once_and_its_end_once_and_no_secret_is_told(
    cloud: Cloud,
    pipeline: Pipeline,
    outcomes: Outcomes,
    totesys: Database,
    database: Database,
) -> None:
    secret = "opensesame4711"
    put_secrets(cloud, source=totesys.url, warehouse=f"postgresql://totes:{secret}@127.0.0.1:1/warehouse")
    before = len(cloud.notifications(TOPIC))
    for number in range(3):
        cloud.pauses.clear()
        execution = pipeline.start()
        ended = pipeline.wait(execution)
        assert (ended["status"], ended["error"]) == ("FAILED", "StageFailed")
        assert ended["cause"].startswith("Failed: load.")
        assert len(cloud.pauses) == 4  # tried, and tried again
        [(subject, message)] = cloud.notifications(TOPIC)[before:]
        assert subject == "[totes] terrifictotes: load fails"
        assert "127.0.0.1" in message
        assert f"Next step: Open the execution: https://{REGION}.console" in message
        watch = outcomes[-1]
        assert watch.result == {"failed": "load", "incidents": ["load"]}
        assert watch.metrics == [], number  # nothing was brought up to date
    history = cloud.client("stepfunctions").get_execution_history(executionArn=execution, maxResults=1000)
    printed = "".join(line for outcome in outcomes for line in outcome.lines)
    assert secret not in message + printed + json.dumps(history["events"], default=str)

    put_secrets(cloud, warehouse=database.url)
    for _ in range(2):
        assert pipeline.run()["status"] == "SUCCEEDED"
        _, (subject, message) = cloud.notifications(TOPIC)[before:]
        assert subject == "[totes] terrifictotes: load works again"
        assert "was seen 3 times" in message
    assert database.execute("SELECT count(*) FROM fact_sales_order") == [(200,)]
    # One an execution, and for each alert two: it was accepted, and nothing is left to send.
    records = cloud.client("s3").list_objects_v2(Bucket=BUCKETS["processed"], Prefix="health/")["Contents"]
    assert [record["Key"] for record in records] == [f"health/{n:012d}.json" for n in range(1, 10)]


def test_attempts_that_a_retry_healed_alarm_nobody(
    cloud: Cloud, pipeline: Pipeline, outcomes: Outcomes, totesys: Database, database: Database
) -> None:
    put_secrets(cloud, source=totesys.url, warehouse="postgresql://totes@127.0.0.1:1/warehouse")
    before, load = len(cloud.notifications(TOPIC)), cloud.functions["load"]

    def once_away(event: dict[str, Any]) -> dict[str, Any]:
        try:
            return load(event)
        finally:
            put_secrets(cloud, warehouse=database.url)

    cloud.functions["load"] = once_away
    assert pipeline.run()["status"] == "SUCCEEDED"
    assert len(cloud.pauses) == 1
    assert cloud.notifications(TOPIC)[before:] == []


def test_a_forged_manifest_is_noticed_by_the_next_execution_or_the_next_daily_check(
    cloud: Cloud, pipeline: Pipeline, outcomes: Outcomes, totesys: Database, database: Database
) -> None:
    put_secrets(cloud, source=totesys.url, warehouse=database.url)
    assert pipeline.run()["status"] == "SUCCEEDED"
    for units in (1, 2):
        totesys.execute(
            f"UPDATE sales_order SET units_sold = {units}, last_updated = now() WHERE sales_order_id = 1"
        )
        assert pipeline.run()["status"] == "SUCCEEDED"
    before = len(cloud.notifications(TOPIC))

    def told() -> list[str]:
        return [subject for subject, _ in cloud.notifications(TOPIC)[before:]]

    for batch, noticed in ((3, "at once"), (1, "by the check")):
        original = forge(cloud, batch)
        if noticed == "by the check":
            assert pipeline.run()["status"] == "SUCCEEDED"
            a_day_later(cloud)
        for _ in range(2):
            ended = pipeline.run()
            assert ended["status"] == "FAILED"
            assert "lake." in ended["cause"]  # warm functions that have read the original fail too
        assert told()[-1] == "[totes] terrifictotes: the lake was changed"
        assert f"batches/{batch:012d}.json" in cloud.notifications(TOPIC)[-1][1]
        forge(cloud, batch, original)
        assert pipeline.run()["status"] == "SUCCEEDED"
        assert told()[-1] == "[totes] terrifictotes: the lake is as it was"
    for title in ("the lake was changed", "the lake is as it was"):
        assert told().count(f"[totes] terrifictotes: {title}") == 2


def forge(cloud: Cloud, batch: int, content: bytes | None = None) -> bytes:
    """Replaces a manifest of the ingestion lake, as an administrator can; returns the one that was there."""
    where = {"Bucket": BUCKETS["ingestion"], "Key": f"batches/{batch:012d}.json"}
    s3 = cloud.client("s3")
    original: bytes = s3.get_object(**where)["Body"].read()
    if content is None:
        manifest = IngestionManifest.of_content(original)
        forged = manifest.model_copy(update={"finished_at": manifest.finished_at + timedelta(seconds=1)})
        forged._stored = None
        content = forged.content()
        assert IngestionManifest.of_content(content).is_intact()
    s3.delete_object(**where)
    s3.put_object(**where, Body=content, IfNoneMatch="*")
    return original


def a_day_later(cloud: Cloud) -> None:
    """Has the watch's newest record say that the last check of all manifests is a day old."""
    s3, bucket = cloud.client("s3"), BUCKETS["processed"]
    newest = s3.list_objects_v2(Bucket=bucket, Prefix="health/")["Contents"][-1]["Key"]
    record = json.loads(s3.get_object(Bucket=bucket, Key=newest)["Body"].read())
    record["searched_at"] = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    s3.delete_object(Bucket=bucket, Key=newest)
    s3.put_object(Bucket=bucket, Key=newest, Body=json.dumps(record).encode(), IfNoneMatch="*")
