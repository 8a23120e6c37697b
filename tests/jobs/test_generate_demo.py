from pathlib import Path

import pytest

from jobs.generate_demo import JOB
from jobs.launch import DEFAULT_CONFIG, ROOT, execute
from pipelines.config import load_config
from pipelines.errors import ConfigError
from pipelines.storage import Workspace

CONFIG = [DEFAULT_CONFIG, ROOT / "tests" / "end_to_end" / "small_demo.yaml"]


def test_it_publishes_the_files_that_the_configuration_maps(tmp_path) -> None:
    config = load_config(CONFIG)
    made = execute(JOB, config, Workspace.open(str(tmp_path / "out")), None).dataset
    made.verify()
    folder = Path(made.path)
    contents = [source for source in (*config.source.items, *config.source.users) if source.dataset is None]
    for source in (*config.source.interactions, *contents, *config.images.sources):
        assert (folder / source.path).exists()
    assert all((folder / path).is_file() for path in config.source.truth.values())
    planted = made.manifest.facts["planted"]
    assert made.manifest.tables["interactions"].rows == planted["rows"]
    assert planted["rows"] == 3000 + planted["clicks"] + 20 + 12
    assert execute(JOB, config, Workspace.open(str(tmp_path / "out")), None).reused


def test_a_configuration_without_demo_is_refused(tmp_path) -> None:
    config = load_config(CONFIG).model_copy(update={"demo": None})
    with pytest.raises(ConfigError, match="section `demo`"):
        execute(JOB, config, Workspace.open(str(tmp_path / "out")), None)
