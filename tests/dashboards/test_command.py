"""`totes dashboards` as people use it: what it writes, what it writes over, what it refuses, and where no password goes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import processes
from tests.dashboards.odd_star import odd_project
from tests.processes import Command
from tests.ui.site import write_settings

Totes = Callable[..., Command]
SECRET = "s3cret-Passw%23rd"
NOWHERE = "postgresql://reader@127.0.0.1:1/totesys"  # nothing is asked of the source
MODELS = {
    "dim_shop": "CREATE TABLE dim_shop (shop_id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT shop_id, name FROM shop",
    "fact_sale": "CREATE TABLE fact_sale (sale_record_id BIGINT PRIMARY KEY, sale_id INTEGER NOT NULL,"
    " shop_id INTEGER REFERENCES dim_shop, amount NUMERIC) AS SELECT sale_id, shop_id, amount FROM sale",
}
DATASETS = {
    "databases/shop.yaml", "datasets/warehouse/dim_shop_current.yaml", "datasets/warehouse/fact_sale.yaml",
    "datasets/warehouse/fact_sale_versions.yaml", "metadata.yaml",
}  # fmt: skip
DASHBOARD = (
    "title: Shop\nrows: [{charts: {total: 12}}]\n"
    "charts: {total: {title: All, type: big_number_total, dataset: fact_sale, params: {metric: sum__amount}}}\n"
)
SAID = """\
bi has 3 datasets, as Superset imports them.

Next, where Superset runs:
  superset import-directory bi --overwrite
or as a file, on its pages of datasets and dashboards:
  python3 -m zipfile -c bi.zip bi
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of two models, with settings beside it."""
    odd_project(tmp_path / "shop", MODELS)
    write_settings(tmp_path, NOWHERE, "duckdb:///warehouse.duckdb", {"name": "shop", "path": "shop"})
    return tmp_path / "shop"


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder."""
    return {
        str(file.relative_to(folder)): file.read_text("utf-8") for file in folder.rglob("*") if file.is_file()
    }


def database(folder: Path) -> dict[str, Any]:
    [file] = (folder / "databases").iterdir()
    found: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    return found


@pytest.mark.usefixtures("project")
def test_it_writes_the_datasets_of_a_star_and_says_how_to_import_them(totes: Totes, tmp_path: Path) -> None:
    done = totes("dashboards", "bi")
    assert (done.code, done.err, done.out) == (0, "", SAID)
    assert content(tmp_path / "bi").keys() == DATASETS
    found = database(tmp_path / "bi")
    assert found["sqlalchemy_uri"] == f"duckdb:///{tmp_path}/warehouse.duckdb"
    assert found["extra"]["engine_params"] == {"connect_args": {"read_only": True}}
    assert json.loads(totes("dashboards", "bi", "--json").out) == {"folder": "bi", "files": sorted(DATASETS)}


@pytest.mark.usefixtures("project")
def test_a_password_is_in_no_file_and_asked_for_by_superset(totes: Totes, tmp_path: Path) -> None:
    address = f"postgresql://ana:{SECRET}@db.example:6432/shop?sslmode=require&sslpassword=oth%65r-secret&options=-csearch_path%3Dx"
    done = totes("dashboards", "bi", TOTES_WAREHOUSE__URL=address)
    assert done.code == 0, done.err
    everything = done.out + done.err + "".join(content(tmp_path / "bi").values())
    for form in ("s3cret", "Passw", "other-secret", "oth%65r"):
        assert form not in everything
    found = database(tmp_path / "bi")
    assert (
        found["sqlalchemy_uri"] == "postgresql+psycopg2://ana:XXXXXXXXXX@db.example:6432/shop?sslmode=require"
    )
    arguments = {"options": "-csearch_path=x -c default_transaction_read_only=on"}
    assert found["extra"]["engine_params"] == {"connect_args": arguments}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://ana@[::1]:5433/shop", "postgresql+psycopg2://ana@[::1]:5433/shop"),
        (
            "postgresql://ana@/shop?host=/run/pg&port=5433",
            "postgresql+psycopg2://ana@/shop?host=%2Frun%2Fpg&port=5433",
        ),
        ("postgresql://a%40b@one,two/sh%2Fop", "postgresql+psycopg2://a%40b@/sh%2Fop?host=one%2Ctwo"),
        ("duckdb:////srv/a b/w%23.duckdb", "duckdb:////srv/a%20b/w%23.duckdb"),
    ],
)
def test_the_warehouse_can_be_another_address(url: str, address: str, totes: Totes, tmp_path: Path) -> None:
    assert totes("dashboards", "bi", "--warehouse", url).code == 0
    assert database(tmp_path / "bi")["sqlalchemy_uri"] == address


@pytest.mark.usefixtures("project")
def test_a_schema_of_the_warehouse_is_that_of_its_datasets(totes: Totes, tmp_path: Path) -> None:
    assert totes("dashboards", "bi", TOTES_WAREHOUSE__SCHEMA="Star").code == 0
    fact = yaml.safe_load((tmp_path / "bi/datasets/warehouse/fact_sale.yaml").read_text("utf-8"))
    assert fact["schema"] == "Star"
    assert 'FROM "Star"."fact_sale_current"' in fact["sql"]
    assert 'JOIN "Star"."dim_shop"' in fact["sql"]


@pytest.mark.usefixtures("project")
def test_nothing_is_written_over_without_being_asked(totes: Totes, tmp_path: Path) -> None:
    assert totes("dashboards", "bi").code == 0
    assert totes("dashboards", "bi").code == 0  # the same again is no change
    mine = tmp_path / "bi" / "datasets" / "warehouse" / "fact_sale.yaml"
    mine.write_text("mine", encoding="utf-8")
    refused = totes("dashboards", "bi")
    assert refused.code == 2
    assert refused.err == (
        "error: 1 file of bi would be written over (datasets/warehouse/fact_sale.yaml). Name another folder, or add --yes\n"
    )
    assert mine.read_text("utf-8") == "mine"
    declined = processes.on_terminal(["dashboards", "bi"], tmp_path, os.environ, typed="n\n")
    assert (declined.code, mine.read_text("utf-8")) == (2, "mine")
    assert "bi/datasets/warehouse/fact_sale.yaml is there already" in declined.out
    assert totes("dashboards", "bi", "--yes").code == 0
    assert "table_name: fact_sale" in mine.read_text("utf-8")


def test_a_projects_own_dashboards_come_with_it(project: Path, totes: Totes, tmp_path: Path) -> None:
    (project / "dashboards").mkdir()
    (project / "dashboards" / "sales.yaml").write_text(
        DASHBOARD,
        encoding="utf-8",
    )
    assert totes("dashboards", "bi").out.startswith("bi has 3 datasets, 1 chart, 1 dashboard, as")
    made = content(tmp_path / "bi")
    chart = yaml.safe_load(made["charts/sales_total.yaml"])
    assert chart["dataset_uuid"] == yaml.safe_load(made["datasets/warehouse/fact_sale.yaml"])["uuid"]
    position = yaml.safe_load(made["dashboards/sales.yaml"])["position"]
    assert position["CHART-total"]["meta"]["uuid"] == chart["uuid"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("x.yaml", "title: [", "x.yaml is not YAML"),
        ("x.yaml", "title: X\nrows: []\ncharts: {}\nmore: 1\n", "x.yaml: more: Extra inputs are not permitted"),
        ("x.yaml", "title: X\nrows: []\ncharts: {a: {title: A, type: table, dataset: fact_sale}}\n",
         "x.yaml: a is not in charts and in one row"),
        ("x.yaml", "title: X\nrows: [{charts: {a: 12}}]\ncharts: {a: {title: A, type: table, dataset: fact_buy}}\n",
         "the chart a of the dashboard x is over fact_buy, which is no dataset"),
        ("x.yaml", "title: X\nrows: [{charts: {a: 13}}]\ncharts: {a: {title: A, type: table, dataset: fact_sale}}\n",
         "x.yaml: row 1 is wider than 12"),
        ("datasets.yaml", "datasets: {more: {metrics: {}}}\n", "datasets.yaml has more, which is no dataset of the star"),
        ("datasets.yaml", "datasets: {more: {sql: 'SELECT * FROM {fact_buy}'}}\n",
         "the query of more in datasets.yaml names 'fact_buy', which is no table of the star"),
    ],
)  # fmt: skip
def test_a_dashboard_that_is_wrong_is_refused(
    file: str, text: str, said: str, project: Path, totes: Totes, tmp_path: Path
) -> None:
    (project / "dashboards").mkdir()
    (project / "dashboards" / file).write_text(text, encoding="utf-8")
    done = totes("dashboards", "bi")
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "bi").exists()
