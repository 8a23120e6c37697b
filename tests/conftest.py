"""What tests share: one real Spark session, the folder of real data, small configurations."""

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# PySpark takes a main module without a file (a test worker's) for its own doctests, and exits.
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = __file__

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)

# The same cases every time: a run that fails can be run again.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """One real local Spark session for the whole run; closed at its end.

    Plans are interpreted: on a few hundred rows, compiling them takes far longer than running them. Sessions of other
    processes (the command line, spark-submit) compile them.
    """
    from pipelines.config import SparkOptions
    from pipelines.spark import spark_session

    settings = {
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        # Here, where jobs that are tried on this session leave it alone.
        "spark.sql.shuffle.partitions": "2",
    }
    session = spark_session(SparkOptions(master="local[2]", driver_memory="1g", settings=settings), app="tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a skip that says why."""
    folder = os.environ.get("THAW_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("THAW_TEST_DATA does not name a folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server on loopback that speaks S3, found by this process and those it starts; gives an empty bucket."""
    import fsspec
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    # What a developer's own account or proxy needs is kept out.
    files = {"CONFIG_FILE": os.devnull, "SHARED_CREDENTIALS_FILE": os.devnull}
    keys = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}
    others = ("PROFILE", "SESSION_TOKEN", "CONTAINER_CREDENTIALS_RELATIVE_URI", "CONTAINER_CREDENTIALS_FULL_URI")
    store = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (files | keys).items():
            patch.setenv(f"AWS_{name}", value)
        for name in others:
            patch.delenv(f"AWS_{name}", raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        store.clear_instance_cache()
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    store.clear_instance_cache()
    server.stop()


@pytest.fixture
def s3(s3_server: str) -> str:
    """An address on it that nothing is at yet."""
    return f"{s3_server}/{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def one_task(spark: Any) -> Iterator[None]:
    """Each stage is one task: on a few hundred rows a task costs more than what it does."""
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "1")
    yield
    spark.conf.set("spark.sql.shuffle.partitions", before)
