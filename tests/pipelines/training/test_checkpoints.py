"""Checkpoints on disk and S3: whole or passed over, the latest kept, nothing of another training taken."""

import io
import os
import signal
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import CheckpointOptions, parse_config
from pipelines.errors import ConfigError, LostError, StoppedError, WorkspaceError
from pipelines.storage import Workspace
from pipelines.training import checkpoints as module
from pipelines.training.checkpoints import Checkpoint, Checkpoints
from pipelines.training.distribution import Alone
from pipelines.training.run import Best, Run, resumed, save_if_due
from pipelines.training.stopping import Stopping
from schemas.manifest import Manifest

WEIGHTS = [np.arange(6, dtype="float32").reshape(2, 3), np.float32(1.5).reshape(())]
SLOTS = [np.array([7, 2**32 - 1], "uint32"), np.zeros((0, 4), "float32"), np.array(-(2**62), "int64")]
SHAPES = [(value.shape, value.dtype.name) for value in [*WEIGHTS, *SLOTS]]
BEST = SHAPES[:2]


def saved(number: int = 0) -> Checkpoint:
    """One whose content tells its number, to the last bit of a sum."""
    return Checkpoint([WEIGHTS[0] + number, *WEIGHTS[1:], *SLOTS], WEIGHTS, {"number": number, "sum": 0.1 + 0.2})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path, said):
    """Options -> checkpoints of one training in one folder."""
    return lambda key="k", **options: Checkpoints(
        str(tmp_path / "ck"), key, CheckpointOptions(**{"steps": 1, **options}), said.append
    )


def test_what_is_saved_is_found_to_the_bit_and_so_on_s3(kept, said, s3) -> None:
    for checkpoints in (kept(), Checkpoints(f"{s3}/model/k.checkpoints", "k", CheckpointOptions(), said.append)):
        assert checkpoints.load(SHAPES, BEST) is None
        for number in (1, 2, 3):
            assert checkpoints.save(saved(number), 1, number)
        found = checkpoints.load(SHAPES, BEST)
        expected = saved(3)
        assert {**found.told, **expected.told} == found.told
        for left, right in ((found.variables, expected.variables), (found.best, expected.best)):
            assert [a.tobytes() for a in left] == [b.tobytes() for b in right]
        assert len(checkpoints._names()) == 2
    assert said == []


def test_the_latest_are_kept_and_what_a_kill_left_half_written_is_removed(kept, tmp_path) -> None:
    for epoch, step in ((1, 9), (1, 10), (2, 0)):
        kept(keep=2).save(saved(), epoch, step)
        (tmp_path / "ck" / f"{epoch:06d}-{step:09d}.npz.0a1b.tmp").write_bytes(b"half")
    kept(keep=2).save(saved(), 2, 1)
    assert sorted(path.name for path in (tmp_path / "ck").iterdir()) == [
        "000002-000000000.npz",
        "000002-000000001.npz",
    ]


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before_and_gone_with_the_next(kept, said, tmp_path) -> None:
    for number in (1, 2):
        kept().save(saved(number), 1, number)
    newest = tmp_path / "ck" / "000001-000000002.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert kept().load(SHAPES, BEST).told["number"] == 1
    assert len(said) == 1 and said[0].startswith(f"note: the checkpoint {newest} is passed over, ")
    # The next one may be an earlier step: it is the latest that counts.
    kept(keep=1).save(saved(5), 1, 1)
    assert kept().load(SHAPES, BEST).told["number"] == 5
    assert not newest.exists()


def _whole() -> bytes:
    file = io.BytesIO()
    told = {**module._about("k"), "saved_at": "", **saved(4).told}
    text = np.frombuffer(module.json.dumps(told).encode(), np.uint8)
    arrays = {f"variables/{place}": value for place, value in enumerate(saved(4).variables)}
    np.savez(file, **arrays, **{f"best/{place}": value for place, value in enumerate(WEIGHTS)}, told=text)
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_file_cut_or_changed_anywhere_is_passed_over_or_says_the_same(data, tmp_path_factory) -> None:
    whole = _whole()
    place = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.integers(0, 255))
    damaged = whole[:place] + (bytes([whole[place] ^ change]) + whole[place + 1 :] if change else b"")
    folder, said = tmp_path_factory.mktemp("damaged"), []
    (folder / "000001-000000001.npz").write_bytes(damaged)
    found = Checkpoints(str(folder), "k", CheckpointOptions(), said.append).load(SHAPES, BEST)
    if found is None:
        assert len(said) == 2 and "is passed over" in said[0] and "starts from the beginning" in said[1]
    else:
        assert found.told["number"] == 4 and found.told["sum"] == 0.1 + 0.2
        values = [*saved(4).variables, *WEIGHTS]
        assert [a.tobytes() for a in (*found.variables, *found.best)] == [b.tobytes() for b in values]


def test_what_another_training_saved_is_never_taken(kept, said, monkeypatch) -> None:
    kept("other").save(saved(), 1, 1)
    assert kept().load(SHAPES, BEST) is None and "it states key other, this training has k" in said[0]
    kept().save(saved(), 1, 2)
    for variables, best in ((SHAPES[1:], BEST), ([((3, 2), "float32"), *SHAPES[1:]], BEST), (SHAPES, BEST[:1])):
        assert kept().load(variables, best) is None
    assert kept().load(SHAPES, BEST) is not None
    assert sum("it is another model's: its shapes differ" in line for line in said) == 3
    said.clear()
    about = module._about("k")
    monkeypatch.setattr(module, "_about", lambda key: {**about, "keras": "99.0"})
    assert kept().load(SHAPES, BEST) is None and "this training has 99.0" in said[0]


def test_nothing_in_a_checkpoint_is_ever_run(kept, said, tmp_path) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    kept().save(saved(), 1, 1)
    file = tmp_path / "ck" / "000001-000000001.npz"
    arrays = dict(np.load(file))
    np.savez(file, **{**arrays, "variables/0": np.array([Payload()], object)})
    assert kept().load(SHAPES, BEST) is None and not (tmp_path / "ran").exists()
    assert "passed over, Object arrays cannot be loaded" in said[0]
    with zipfile.ZipFile(file, "w") as other:
        other.writestr("told.npy", b"no array")
    assert kept().load(SHAPES, BEST) is None and "told is no array" in said[2]


def test_a_checkpoint_that_cannot_be_written_costs_a_note_and_not_the_training(kept, said, tmp_path) -> None:
    (tmp_path / "ck").write_text("a file where the folder should be")
    assert kept().save(saved(), 1, 1) is False
    assert len(said) == 1 and "training goes on without it" in said[0]


@pytest.mark.parametrize("error", [TimeoutError("60 s"), PermissionError(13, "denied"), OSError(5, "I/O error")])
def test_a_checkpoint_that_cannot_be_read_for_the_moment_is_not_passed_over(error, kept, said, monkeypatch) -> None:
    for number in (1, 2):
        kept().save(saved(number), 1, number)

    def fails(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(module.np, "load", fails)
        with pytest.raises(WorkspaceError, match=r"000001-000000002\.npz must be readable, it cannot be read now"):
            kept().load(SHAPES, BEST)
    assert said == [] and kept().load(SHAPES, BEST).told["number"] == 2


def test_it_is_time_by_the_clock_by_steps_and_when_asked_to_stop(kept, monkeypatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    every = kept(minutes=None, steps=3)
    due = []
    for _ in range(7):
        due.append(every.is_due())
        if due[-1]:
            every.save(saved(), 1, 1)
    assert due == [False, False, True, False, False, True, False]
    clock = kept(minutes=2, steps=None)
    now[0] += 119
    assert not clock.is_due()
    now[0] += 1
    assert clock.is_due() and clock.save(saved(), 1, 1) and not clock.is_due()
    never = kept(minutes=None, steps=None)
    assert not never.is_due()
    never.stopping.signal = signal.SIGTERM
    assert never.is_due()


def test_a_process_that_does_not_write_stops_alike_and_leaves_the_files_alone(tmp_path, said) -> None:
    quiet = Checkpoints(str(tmp_path / "ck"), "k", CheckpointOptions(steps=1), said.append, writes=False)
    assert quiet.is_due() and quiet.save(saved(), 1, 1) is False
    assert not (tmp_path / "ck").exists() and said == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_noted_and_ends_the_training_where_it_saves(number, code, kept) -> None:
    class Step:
        variables = (np.zeros(2),)

        def settle(self) -> None:
            pass

    before, checkpoints = signal.getsignal(number), kept(steps=None)
    with checkpoints.stopping:
        os.kill(os.getpid(), number)
        time.sleep(0)
        assert signal.getsignal(number) is before, "a second one ends it at once"
        with pytest.raises(StoppedError, match=rf"by {number.name} in epoch 3 after step 0, which is saved") as stopped:
            save_if_due(Run(3, best=Best((1.0,), 2, [np.ones(1)])), checkpoints, Step())
    assert stopped.value.exit_code == code
    found = checkpoints.load([((2,), "float64")], [((1,), "float64")])
    again = Run.of(found)
    assert (again.number, again.step, again.best.rank, again.best.epoch) == (3, 0, (1.0,), 2)
    assert np.array_equal(again.best.weights[0], np.ones(1))


def test_all_processes_go_on_from_the_checkpoint_that_process_0_takes_or_not_at_all(kept) -> None:
    class Others(Alone):
        index = 1

        def everyones(self, local):
            return np.stack([np.array([2, 6]).view(np.uint8), local])

    class Step:
        variables, weights = (keras.Variable(np.ones(2, "float32")),), ()

    for number in (5, 6, 7):
        kept(keep=9).save(Run(2, number).saved(Step.variables), 2, number)
        refused = pytest.raises(LostError, match="must go on from one checkpoint")
        with refused if number == 5 else nullcontext(), resumed(kept(), Step(), Step(), Others()) as run:
            assert (run.number, run.step) == (2, 6)


def test_signals_are_left_as_they_were() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Stopping() as stopping:
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before and not stopping.asked


def test_publishing_a_version_removes_its_checkpoints_and_no_others(tmp_path) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    folders = [Path(workspace.checkpoints("model", key * 32)) for key in ("ab", "cd")]
    for folder in folders:
        Checkpoints(str(folder), "k", CheckpointOptions(), print).save(saved(), 1, 1)
    workspace.publish(workspace.stage("model", "ab" * 32), Manifest(dataset="model", tables={}, seed=1, key="ab" * 32))
    assert [folder.exists() for folder in folders] == [False, True]


def test_options_that_cannot_be_are_refused_and_none_is_in_a_resume_key() -> None:
    labels = {"rule": "sampled", "positive_actions": ["click"]}
    for wrong in ({"minutes": 0}, {"steps": 0}, {"keep": 0}):
        with pytest.raises(ConfigError, match=rf"`checkpoints\.{next(iter(wrong))}`"):
            parse_config({"name": "x", "seed": 1, "labels": labels, "checkpoints": wrong})
    from jobs import train_classifier, train_content_classifier, train_dropoutnet

    for job in (train_dropoutnet.JOB, train_classifier.JOB, train_content_classifier.JOB):
        assert "checkpoints" not in job.sections
