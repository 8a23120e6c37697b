import os
import signal

import apache_beam as beam
import pytest

from pipelines.beam import open_pipeline
from pipelines.config import BeamOptions
from pipelines.errors import ConfigError, SourceError, ThawError


def refuse(path: str) -> str:
    raise SourceError(f"{path} must be a picture, it is not; remove it")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_ours_in_a_worker_is_that_error_and_not_logged_besides(workers: int, capfd) -> None:
    with (
        pytest.raises(SourceError, match=r"^x\.png must be a picture, it is not; remove it$"),
        open_pipeline(BeamOptions(workers=workers)) as pipeline,
    ):
        _ = pipeline | beam.Create(["x.png"]) | beam.Map(refuse)
    assert "Traceback" not in capfd.readouterr().err


def test_a_fault_of_a_worker_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), open_pipeline(BeamOptions(workers=1)) as pipeline:
        _ = pipeline | beam.Create([0]) | beam.Map(lambda x: 1 // x)


@pytest.mark.parametrize("name", ["NoRunner", "no.module.Runner", "apache_beam.NoRunner"])
def test_a_runner_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be `local` or a runner .*FlinkRunner.*, got '") as found:
        open_pipeline(BeamOptions(runner=name))
    assert "\n" not in str(found.value)


def test_a_runner_whose_jar_is_missing_is_one_message() -> None:
    options = BeamOptions(runner="FlinkRunner", options={"flink_job_server_jar": "/nowhere/job-server.jar"})
    with (
        pytest.raises(ConfigError, match="the Beam runner FlinkRunner must be able to start") as found,
        open_pipeline(options) as pipeline,
    ):
        _ = pipeline | beam.Create([1])
    assert "\n" not in str(found.value)


def test_an_option_of_the_wrong_kind_is_one_message(capsys) -> None:
    with pytest.raises(ConfigError, match=r"beam\.options must be pipeline options"):
        open_pipeline(BeamOptions(options={"direct_num_workers": "many"}))
    assert capsys.readouterr().err == ""


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("interrupts", [signal.default_int_handler, signal.SIG_IGN], ids=["heeded", "ignored"])
def test_a_killed_worker_is_one_message_and_never_a_wait_without_end(capfd, interrupts) -> None:
    before = signal.signal(signal.SIGINT, interrupts)
    with (
        pytest.raises(ThawError, match=r"one died .*want of memory"),
        open_pipeline(BeamOptions(workers=2)) as pipeline,
    ):
        _ = pipeline | beam.Create([1]) | beam.Map(die)
    signal.signal(signal.SIGINT, before)
    assert "Traceback" not in capfd.readouterr().err
