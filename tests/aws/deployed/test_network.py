"""A VPC that others use too: what is theirs stays as it is, and what they have is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws.deployed.cloud import REGION, Cloud
from tests.aws.deployed.conftest import prepared, role_policies
from tests.aws.deployed.terraform import Deployment

NETWORK = (
    "aws_vpc_endpoint.lake",
    "aws_vpc_endpoint.secrets",
    "aws_vpc_security_group_egress_rule.lake",
    "aws_vpc_security_group_egress_rule.secrets",
    "aws_vpc_security_group_egress_rule.databases",
    "aws_vpc_security_group_ingress_rule.secrets",
)
PACKAGE = str(Path(__file__).parents[3] / "infra" / "tests" / "package.zip")


@dataclass(frozen=True)
class Neighbours:
    """Somebody's VPC, with endpoints of theirs for both services."""

    ec2: Any
    vpc: str
    subnet: str
    s3: str
    secrets: str
    security_group: str

    @property
    def theirs(self) -> dict[str, Any]:
        """All that could be changed for them: endpoints, rules of the security group, routes."""
        own = [{"Name": "vpc-id", "Values": [self.vpc]}]
        endpoints = self.ec2.describe_vpc_endpoints(VpcEndpointIds=[self.s3, self.secrets])["VpcEndpoints"]
        groups = self.ec2.describe_security_groups(GroupIds=[self.security_group])["SecurityGroups"]
        routes = [table["Routes"] for table in self.ec2.describe_route_tables(Filters=own)["RouteTables"]]
        return {"endpoints": endpoints, "groups": groups, "routes": routes}

    def added(self) -> list[dict[str, Any]]:
        """The endpoints that are not theirs."""
        found = self.ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])
        theirs = (self.s3, self.secrets)
        return [
            endpoint
            for endpoint in found["VpcEndpoints"]
            if endpoint["State"] != "deleted" and endpoint["VpcEndpointId"] not in theirs
        ]


@pytest.fixture
def neighbours(cloud: Cloud) -> Neighbours:
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    group = ec2.create_security_group(GroupName="theirs", Description="theirs", VpcId=vpc)["GroupId"]
    everyone = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}
    secrets = ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.secretsmanager", VpcEndpointType="Interface",
        SubnetIds=[subnet], SecurityGroupIds=[group], PrivateDnsEnabled=True, PolicyDocument=json.dumps(everyone),
    )  # fmt: skip
    s3 = ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.s3", VpcEndpointType="Gateway", RouteTableIds=[table]
    )
    ids = (made["VpcEndpoint"]["VpcEndpointId"] for made in (s3, secrets))
    return Neighbours(ec2, vpc, subnet, *ids, group)


@pytest.fixture
def root(cloud: Cloud, tmp_path: Path) -> Iterator[Deployment]:
    """infra/, of which a test applies the network."""
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform on the PATH: nothing of infra/ was applied")
    made = prepared(cloud, tmp_path)
    yield made
    made.destroy()
    s3 = cloud.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"].startswith("totes-beside-"):
            s3.delete_bucket(Bucket=bucket["Name"])


def network(neighbours: Neighbours, **endpoints: str) -> dict[str, Any]:
    """The variables of a deployment into that VPC, which uses these endpoints of theirs."""
    vpc = {
        "id": neighbours.vpc,
        "subnet_ids": [neighbours.subnet],
        "database_cidrs": ["10.7.9.0/24"],
        "endpoint_ids": endpoints,
    }
    # A secret's name is in use for a week after it was removed: each deployment here has a name of its own.
    return {"package": PACKAGE, "project": f"beside-{neighbours.vpc[-8:]}", "vpc": vpc}


def test_nothing_changes_for_others_in_the_vpc(neighbours: Neighbours, root: Deployment) -> None:
    before = neighbours.theirs
    root.apply_only(*NETWORK, **network(neighbours, s3=neighbours.s3))
    assert neighbours.theirs == before
    [ours] = neighbours.added()
    assert ours["ServiceName"].endswith(".secretsmanager")
    assert not ours["PrivateDnsEnabled"]  # the service's name leads all others where it did before

    root.apply_only(*NETWORK, **network(neighbours, s3=neighbours.s3, secretsmanager=neighbours.secrets))
    assert neighbours.theirs == before
    assert neighbours.added() == []
    rules = json.loads(root.run("show", "-json"))["values"]["root_module"]["resources"]
    [rule] = [
        one["values"]
        for one in rules
        if one["address"].startswith("aws_vpc_security_group_egress_rule.secrets")
    ]
    assert rule["referenced_security_group_id"] == neighbours.security_group


@pytest.mark.sweep  # the provider waits for three minutes until a database is made and gone
def test_a_warehouse_that_is_made_has_a_secret_that_totes_reads(
    cloud: Cloud, neighbours: Neighbours, root: Deployment
) -> None:
    second = neighbours.ec2.create_subnet(
        VpcId=neighbours.vpc, CidrBlock="10.7.2.0/24", AvailabilityZone=f"{REGION}b"
    )["Subnet"]["SubnetId"]
    variables = network(neighbours, s3=neighbours.s3)
    variables["vpc"]["subnet_ids"].append(second)
    root.apply_only(
        "module.load", "aws_vpc_security_group_ingress_rule.warehouse", warehouse_database={}, **variables
    )
    name = f"totes-{variables['project']}"
    [made] = cloud.client("rds").describe_db_instances()["DBInstances"]
    assert (made["StorageEncrypted"], made["PubliclyAccessible"], made["DeletionProtection"]) == (
        True,
        False,
        True,
    )
    secret = made["MasterUserSecret"]["SecretArn"]
    function = cloud.client("lambda").get_function_configuration(FunctionName=f"{name}-load")
    url = function["Environment"]["Variables"]["TOTES_WAREHOUSE__URL"]
    assert url.startswith(f"secretsmanager:{secret}?")
    for part in (f"host={made['Endpoint']['Address']}", "dbname=warehouse", "sslmode=verify-full"):
        assert part in url
    [policy] = [p for p in role_policies(cloud, f"{name}-load") if "KnowTheWarehouse" in json.dumps(p)]
    assert secret in json.dumps(policy)
    cloud.client("rds").modify_db_instance(DBInstanceIdentifier=f"{name}-warehouse", DeletionProtection=False)
