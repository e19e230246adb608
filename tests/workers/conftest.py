"""Workers to test: threads, and Spark's own processes on this machine where PySpark can be imported."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from totes.workers.place import workers_at
from totes.workers.protocol import Workers

ROOT = Path(__file__).parents[2]
CLUSTER = "local-cluster[2,1,1024]"
ON_SPARK = pytest.mark.spark
# What starts fast, for what lives shortly.
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


@pytest.fixture(scope="session")
def spark_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What Spark finds in the environment: where it listens, its settings, and where its processes find these tests."""
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        pytest.skip("there is no PySpark, or no Java: make test-spark")
    folder = tmp_path_factory.mktemp("spark")
    (folder / "spark-defaults.conf").write_text(
        "spark.ui.enabled false\nspark.driver.memory 512m\nspark.sql.warehouse.dir /nowhere\n"
        f"spark.local.dir {folder}\nspark.driver.extraJavaOptions {_JAVA}\nspark.executor.extraJavaOptions {_JAVA}\n"
    )
    (folder / "log4j2.properties").write_text(
        "rootLogger.level = error\nrootLogger.appenderRef.stderr.ref = stderr\nappender.stderr.type = Console\n"
        "appender.stderr.name = stderr\nappender.stderr.target = SYSTEM_ERR\nappender.stderr.layout.type = PatternLayout\n"
        "appender.stderr.layout.pattern = %p %c{1}: %m%n\n"
    )
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("SPARK_CONF_DIR", str(folder))
        patch.setenv("SPARK_WORKER_DIR", str(folder / "work"))
        patch.setenv("PYTHONPATH", path)
        yield


@pytest.fixture
def open_workers(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Workers]]:
    """Makes workers by their URL, and closes them in the end."""
    opened: list[Workers] = []

    def make(url: str) -> Workers:
        if url != "local":
            request.getfixturevalue("spark_environment")
        opened.append(workers_at(url))
        return opened[-1]

    yield make
    for workers in opened:
        workers.close()
