"""The training benchmark's data is the data that its goals were set for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._clicks import make_clicks


@pytest.mark.real_data
@pytest.mark.skipif("THAW_TEST_DATA" not in os.environ, reason="set THAW_TEST_DATA to the folder of real data")
def test_clicks_are_those_of_the_generator(tmp_path) -> None:
    script = Path(os.environ["THAW_TEST_DATA"], "train_step", "generate.py")
    if not script.exists():
        pytest.skip(f"{script} is not there")
    subprocess.run([sys.executable, script, tmp_path / "clicks.npz"], check=True, timeout=120)
    clicks = make_clicks()
    with np.load(tmp_path / "clicks.npz") as expected:
        assert set(clicks) == set(expected.files)
        for name in expected.files:
            # Probabilities are sums in another order; labels drawn from them are the same.
            np.testing.assert_allclose(clicks[name], expected[name], rtol=0, atol=1e-12, err_msg=name)
