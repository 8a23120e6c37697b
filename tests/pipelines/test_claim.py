"""A claim: one holder at a time, on a disk and on a store without locks; what a dead holder left is taken over."""

import errno
import json
import os
import threading

import fsspec
import pytest

from pipelines import claim
from pipelines.errors import WorkspaceError


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path, monkeypatch) -> str:
    # Long enough that a busy machine does not make a live holder look dead.
    monkeypatch.setattr(claim, "STALE_S", 3.0)
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    return str(tmp_path / "k.claim") if request.param == "disk" else f"memory://{tmp_path}/k.claim"


def exists(place: str) -> bool:
    fs, path = fsspec.core.url_to_fs(place)
    return fs.exists(path)


def test_a_claim_is_there_while_it_is_held_and_gone_afterwards(place) -> None:
    said = []
    for _ in range(2):
        with claim.claimed(place, "`things`", said.append) as require:
            require()
            assert exists(place)
        assert not exists(place)
    assert said == []


def test_a_claim_is_given_up_where_the_work_fails(place) -> None:
    with pytest.raises(RuntimeError), claim.claimed(place, "`things`", print):
        raise RuntimeError("the power went")
    assert not exists(place)


def test_many_who_want_one_claim_hold_it_one_after_the_other(place) -> None:
    said, holders, most = [], [], []

    def hold() -> None:  # an error of it leaves `most` short
        with claim.claimed(place, "`things`", said.append) as require:
            holders.append(1)
            most.append(len(holders))
            threading.Event().wait(0.03)
            require()
            holders.pop()

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert all(line.startswith("`things` is being made by another run (") for line in said)
    assert 1 <= len(said) <= 5
    assert not exists(place)


@pytest.mark.parametrize(
    "left", [b"", b"{", json.dumps({"process": 1, "host": "h", "since": "s", "token": "t"}).encode()]
)
def test_what_a_dead_run_left_is_taken_over(place, left, monkeypatch) -> None:
    monkeypatch.setattr(claim, "STALE_S", 0.4)
    fs, path = fsspec.core.url_to_fs(place)
    fs.pipe_file(path, left)
    with claim.claimed(place, "`things`", print) as require:
        require()
    assert not exists(place)


def test_a_claim_that_another_has_taken_is_not_taken_for_ones_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(claim, "BEAT_S", 0.02)
    fs, path = fsspec.core.url_to_fs(f"memory://{tmp_path}/k.claim")
    theirs = json.dumps({"process": 2, "host": "other", "since": "noon", "token": "t"}).encode()
    with claim.claimed(f"memory://{path}", "`things`", print) as require:
        fs.pipe_file(path, theirs)
        threading.Event().wait(0.1)
        with pytest.raises(WorkspaceError, match=r"another took over \(process 2 on other, since noon UTC\)"):
            require()
    assert fs.cat_file(path) == theirs


def test_a_disk_without_locks_is_one_message(tmp_path, monkeypatch) -> None:
    def none(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with (
        pytest.raises(WorkspaceError, match=r"--out must be on a file system with file locks, .*No locks available"),
        claim.claimed(str(tmp_path / "k.claim"), "`things`", print),
    ):
        pass


def test_a_store_that_says_in_its_own_way_that_there_is_a_claim_makes_the_run_wait(tmp_path, monkeypatch) -> None:
    fs, path = fsspec.core.url_to_fs(f"memory://{tmp_path}/k.claim")
    create, refused = type(fs).pipe_file, []

    def conflicting(self, path, value, mode="overwrite", **options):
        if mode == "create" and self.exists(path):
            refused.append(path)
            raise OSError(errno.EINVAL, "PreconditionFailed")
        create(self, path, value, **options)

    monkeypatch.setattr(type(fs), "pipe_file", conflicting)
    monkeypatch.setattr(claim, "STALE_S", 0.4)
    fs.pipe_file(path, b"{}")
    said = []
    with claim.claimed(f"memory://{path}", "`things`", said.append) as require:
        require()
    assert refused and len(said) == 1
