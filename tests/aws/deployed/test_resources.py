"""What is in the account after an apply, read back from it.

Moto keeps schedules, alarms and lifecycle rules, and does nothing about them: that they are as they should
be is asserted here, that AWS acts on them is not executed.
"""

from __future__ import annotations

import json
import tomllib

from tests.aws.deployed.cloud import Cloud
from tests.aws.deployed.names import BUCKETS, FUNCTIONS, MACHINE, NAME, QUEUE, SECRETS, TOPIC, role
from tests.aws.deployed.terraform import Deployment
from totes import errors
from totes.config import Settings


def test_a_second_apply_would_change_nothing(deployment: Deployment) -> None:
    assert deployment.changes() == {}


def test_the_state_machine_is_started_every_fifteen_minutes(cloud: Cloud, deployment: Deployment) -> None:
    schedule = cloud.client("scheduler").get_schedule(Name=NAME, GroupName=NAME)
    assert schedule["ScheduleExpression"] == "rate(15 minutes)"
    assert schedule["State"] == "ENABLED"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    target = schedule["Target"]
    assert target["Arn"] == MACHINE
    assert target["RoleArn"] == role("schedule")
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 900, "MaximumRetryAttempts": 10}
    assert target["DeadLetterConfig"]["Arn"] == QUEUE


def test_one_alarm_for_what_the_watch_cannot_report(cloud: Cloud, deployment: Deployment) -> None:
    [alarm] = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmName"] == f"{NAME}-freshness"
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Totes/terrifictotes", "FreshnessSeconds")
    assert alarm["Dimensions"] == [{"Name": "stage", "Value": "watch"}]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "Maximum",
        "GreaterThanThreshold",
        1800,
    )
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 30 * 60
    assert alarm["AlarmActions"] == alarm["OKActions"] == [TOPIC]
    assert cloud.client("logs").describe_metric_filters()["metricFilters"] == []


def test_the_state_machine_calls_the_live_version_of_each_function(
    cloud: Cloud, deployment: Deployment
) -> None:
    described = cloud.client("stepfunctions").describe_state_machine(stateMachineArn=MACHINE)
    states = json.loads(described["definition"])["States"]
    for name in FUNCTIONS:
        alias = cloud.client("lambda").get_alias(FunctionName=f"{NAME}-{name}", Name="live")
        assert states[name.title()]["Parameters"]["FunctionName"] == alias["AliasArn"]
        assert alias["FunctionVersion"] == "1"


def test_logs_are_kept_for_as_long_as_was_said(cloud: Cloud, deployment: Deployment) -> None:
    groups = cloud.client("logs").describe_log_groups()["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"] for group in groups} == {
        **{f"/aws/lambda/{NAME}-{name}": 90 for name in FUNCTIONS},
        f"/aws/vendedlogs/states/{NAME}": 90,
    }


def test_everyone_who_is_to_be_told_has_a_subscription(cloud: Cloud, deployment: Deployment) -> None:
    subscriptions = cloud.client("sns").list_subscriptions_by_topic(TopicArn=TOPIC)
    assert {(entry["Protocol"], entry["Endpoint"]) for entry in subscriptions["Subscriptions"]} == {
        ("email", "data@totes.example"),
        ("email", "night@totes.example"),
    }


def test_buckets_keep_what_they_are_given(cloud: Cloud, deployment: Deployment) -> None:
    s3 = cloud.client("s3")
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == set(BUCKETS.values())
    for bucket in BUCKETS.values():
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {
            True
        }
        tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
        assert tags == {"project": NAME, "managed_by": "terraform", "team": "data"}


def test_only_checkpoints_and_health_leave_the_lake(cloud: Cloud, deployment: Deployment) -> None:
    for store in ("ingestion", "processed"):
        rules = cloud.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKETS[store])["Rules"]
        leaving = [rule for rule in rules if "Days" in rule.get("Expiration", {})]
        assert [(rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) for rule in leaving] == [
            ("checkpoints/", 7),
            ("health/", 7),
        ]
        [versions] = [rule for rule in rules if rule["ID"] == "versions"]
        assert versions["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
        assert versions["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7


def test_each_function_is_configured_by_settings_that_totes_takes(
    cloud: Cloud, deployment: Deployment
) -> None:
    client = cloud.client("lambda")
    for stage, memory in (("ingest", 2048), ("process", 3072), ("load", 2048), ("watch", 1024)):
        function = client.get_function_configuration(FunctionName=f"{NAME}-{stage}")
        assert function["Handler"] == f"totes.aws.handlers.{stage}"
        assert (function["MemorySize"], function["Timeout"]) == (memory, 900)
        assert function["Role"] == role(stage)
        variables = function["Environment"]["Variables"]
        assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "Totes/terrifictotes"
        assert variables["TOTES_LAKE__MEMORY"] == f"{memory * 2 // 5}MB"
        assert variables["TOTES_LAKE__INGESTION"] == f"s3://{BUCKETS['ingestion']}"
        assert variables["TOTES_SOURCE__URL"] == f"secretsmanager:{SECRETS['source']}"
        assert variables["TOTES_WAREHOUSE__URL"] == f"secretsmanager:{SECRETS['warehouse']}"


def test_the_outputs_say_what_there_is(deployment: Deployment) -> None:
    outputs = deployment.outputs
    assert outputs["buckets"] == BUCKETS
    assert outputs["secrets"] == SECRETS
    assert outputs["functions"] == {name: f"{NAME}-{name}" for name in FUNCTIONS}
    assert (outputs["state_machine_arn"], outputs["topic_arn"]) == (MACHINE, TOPIC)
    assert set(outputs["links"]) == {"alarms", "dashboard", "executions", "logs"}
    assert all(f"--secret-id {name} " in outputs["next_steps"] for name in SECRETS.values())


def test_the_settings_for_a_laptop_are_valid(deployment: Deployment) -> None:
    settings = Settings(**tomllib.loads(deployment.outputs["settings"]))
    assert settings.lake.processed == f"s3://{BUCKETS['processed']}"
    assert settings.warehouse.url.get_secret_value() == f"secretsmanager:{SECRETS['warehouse']}"


def test_exactly_what_totes_calls_transient_is_retried(cloud: Cloud, deployment: Deployment) -> None:
    described = cloud.client("stepfunctions").describe_state_machine(stateMachineArn=MACHINE)
    states = json.loads(described["definition"])["States"]
    transient = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.TotesError) and kind.retryable
    }
    for stage in FUNCTIONS:
        ours, *_ = states[stage.title()]["Retry"]
        assert set(ours["ErrorEquals"]) == transient
        assert ours["JitterStrategy"] == "FULL"
        named = {name for retry in states[stage.title()]["Retry"] for name in retry["ErrorEquals"]}
        assert "States.ALL" not in named
        assert "States.TaskFailed" not in named


def test_the_dashboard_shows_metrics_that_the_pipeline_has(cloud: Cloud, deployment: Deployment) -> None:
    body = json.loads(cloud.client("cloudwatch").get_dashboard(DashboardName=NAME)["DashboardBody"])
    shown = {
        metric[1]
        for widget in body["widgets"]
        if widget["type"] == "metric"
        for metric in widget["properties"]["metrics"]
        if metric[0] == "Totes/terrifictotes"
    }
    assert shown == {"FreshnessSeconds", "Rows", "Batches", "DurationSeconds", "Quarantined"}
    assert len(next(w for w in body["widgets"] if w["type"] == "alarm")["properties"]["alarms"]) == 1
