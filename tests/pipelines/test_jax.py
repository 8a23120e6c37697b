"""Models, losses and training steps on JAX: one process of that backend, beside this one of TensorFlow."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.pipelines.losses.cases import every_case
from tests.pipelines.training import test_network, test_resume
from tests.pipelines.training.test_step import check


def test_losses_gradients_steps_resuming_and_what_models_add_by_hand_hold_on_jax_as_well() -> None:
    here = every_case()
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    there = json.loads(run.stdout.splitlines()[-1])
    assert there.keys() == here.keys()
    for case, expected in here.items():
        np.testing.assert_allclose(there[case], expected, rtol=1e-4, atol=1e-5, err_msg=case)


if __name__ == "__main__":
    check()
    test_network.check()
    with tempfile.TemporaryDirectory() as folder:
        # To compile towers again takes most of a minute: `make test-faults` does.
        for train in (test_resume.classifier, *[test_resume.towers] * ("THAW_KILLS" in os.environ)):
            test_resume.check(train, f"{folder}/{train.__name__}", [3])
    with contextlib.redirect_stdout(sys.stderr):
        failed = pytest.main(["-q", "-m", "on_jax", str(Path(__file__).parent / "models" / "test_dropoutnet.py")])
    print(json.dumps(every_case()))
    sys.exit(failed)
