"""The GPU benchmark needs a checkout, Keras and JAX alone, and says what it lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _click_towers, _device, gpu_train_step

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocked())
"""
NOT_NEEDED = ("tensorflow", "pyspark", "mlflow", "apache_beam", "great_expectations", "fsspec", "pyarrow", "pandas")
TINY = {"BATCHES": "64", "PRECISIONS": "float32", "ROUNDS": "1", "SECONDS": "0", "SIDE": "64", "MEGABYTES": "1"}


def run(folder: Path, *blocked: str, **settings: str) -> Any:
    # A process's children are blocked too.
    (folder / "sitecustomize.py").write_text(BLOCKED.format(blocked=blocked))
    kept = {name: value for name, value in os.environ.items() if name not in ("DEVICE", "KERAS_BACKEND")}
    environment = {**kept, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **TINY, **settings}
    command = [sys.executable, "-m", "benchmarks", "gpu_train_step"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_it_runs_with_keras_jax_and_arrays_alone(tmp_path) -> None:
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "KERAS_BACKEND": "jax", "DEVICE": "cpu"}
    done = run(tmp_path, *NOT_NEEDED, **quick)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["figures"]["examples_per_s_jax_float32_64"] > 0
    assert 0 < told["ratios"]["matmul_ceiling_jax_float32_64"] < 100
    # XLA counts what the formula counts, and small things besides.
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("jax  ")]
    assert 1 <= float(row[-1]) < 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CHOSEN", ["float16"], "PRECISIONS must be some of float32, tf32, bfloat16, got 'float16'"),
        ("BATCHES", [1024, 1], "BATCHES must be sizes of 2 or more, got 1"),
        ("BACKENDS", [], "JAX or TensorFlow must be installed, neither is"),
    ],
)
def test_a_wrong_setting_is_one_message(name, value, message, monkeypatch) -> None:
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.setattr(gpu_train_step, name, value)
    with pytest.raises(SystemExit, match=message):
        gpu_train_step.check_settings()


def test_a_device_is_the_gpu_or_the_processor(monkeypatch) -> None:
    monkeypatch.setenv("DEVICE", "tpu")
    with pytest.raises(SystemExit, match="DEVICE must be cpu or absent, got 'tpu'"):
        gpu_train_step.check_settings()


def test_without_a_gpu_it_says_what_to_do(monkeypatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    with pytest.raises(SystemExit, match=r"JAX must see a GPU, it sees none; install jax\[cuda12\]"):
        _device._jax("float32")


def test_the_fewest_operations_and_bytes_are_those_of_the_layers() -> None:
    weights = sum(into * out for into, out, _ in _click_towers.layer_shapes())
    without = sum(into * out for into, out, learned in _click_towers.layer_shapes() if not learned)
    assert _click_towers.step_operations(1) == 6 * weights - 2 * without
    # Twice as many rows: twice as many operations, and the weights move once all the same.
    assert _click_towers.step_operations(2) == 2 * _click_towers.step_operations(1)
    assert _click_towers.step_bytes(2, 4) < 2 * _click_towers.step_bytes(1, 4)
