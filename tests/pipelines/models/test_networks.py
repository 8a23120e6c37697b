"""Whole networks have the published parameters and multiply-adds, and blocks give on JAX what they give here."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.pipelines.models import on_both

PUBLISHED = {
    "mobilenet_v1 1.0": (4_231_976, 568.74),
    "mobilenet_v1 0.25": (470_072, 41.03),
    "mobilenet_v2 1.0": (3_504_872, 300.77),
    "shufflenet_v1 g=1": (1_531_936, None),
    "shufflenet_v1 g=2": (1_733_848, None),
    "shufflenet_v1 g=3": (1_865_728, 137.46),
    "shufflenet_v1 g=4": (1_968_344, None),
    "shufflenet_v1 g=8": (2_434_768, None),
    "shufflenet_v2 1.0": (2_278_604, 144.91),
    "shufflenet_v2 0.5": (1_366_792, None),
}
"""Trainable parameters, and millions of multiply-adds, at 224 × 224 and 1000 classes."""


@pytest.fixture(scope="module")
def on_jax():
    run = subprocess.run(
        [sys.executable, on_both.__file__],
        env=os.environ
        | {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_parameters_and_multiply_adds(on_jax, name) -> None:
    parameters, millions = PUBLISHED[name]
    assert on_jax[name][0] == parameters
    if millions is not None:
        assert round(on_jax[name][1] / 1e6, 2) == millions


@pytest.mark.parametrize("name", on_both.KERAS)
def test_mobilenet_is_that_of_keras_weight_for_weight(on_jax, name) -> None:
    assert on_jax[f"keras {name}"] == on_jax[name]
    assert on_jax[f"same {name}"]


def test_blocks_losses_and_schedules_are_the_same_on_jax(on_jax) -> None:
    for case, expected in on_both.every_case().items():
        np.testing.assert_allclose(on_jax[case], expected, rtol=1e-4, atol=1e-5, err_msg=case)
