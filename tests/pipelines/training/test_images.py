"""Records to images: the same in memory and from disk, and every epoch has every row."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import CorruptDatasetError, InputError
from pipelines.storage import Workspace
from pipelines.training.images import HeldBatches, check_labels, mean_image, open_images, read_images
from tests.pipelines.training.image_records import publish_images, spots


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    workspace = Workspace.open(str(tmp_path_factory.mktemp("out")))
    return publish_images(workspace, {"train": spots(40), "validation": spots(0), "test": spots(3, 1)})


def test_images_that_end_in_zero_bytes_are_read_whole(records) -> None:
    ids, pixels, labels = spots(40)
    found = read_images(records, "train")
    assert found.ids == tuple(ids)
    assert np.array_equal(found.images, pixels) and np.array_equal(found.labels, labels)
    assert read_images(records, "validation").images.shape == (0, 4, 4, 1)


def test_the_first_images_are_read_from_as_few_shards_as_hold_them(tmp_path) -> None:
    records = publish_images(Workspace.open(str(tmp_path)), {"train": spots(40)}, shards=4)
    for path in records.table_paths("train")[2:]:
        # Damaged, and not noticed: it has the size that it should.
        Path(path).write_bytes(bytes(Path(path).stat().st_size))
    ids, pixels, labels = spots(40)
    for most in (0, 5, 10, 13, 20):
        found = read_images(records, "train", most)
        assert found.ids == tuple(ids[:most]) and found.inputs == (4, 4, 1)
        assert np.array_equal(found.images, pixels[:most]) and np.array_equal(found.labels, labels[:most])
    for most in (21, 99, None):
        with pytest.raises(CorruptDatasetError, match="was altered since it was published"):
            read_images(records, "train", most)


def test_a_streamed_epoch_has_the_images_of_one_in_memory_each_once(records) -> None:
    held, streamed = read_images(records, "train"), open_images(records, "train", memory_bytes=0)
    assert streamed.rows == held.rows and streamed.inputs == held.inputs
    assert np.array_equal(mean_image(streamed), mean_image(held))
    known = dict(zip(held.ids, held.images, strict=True))
    batches, orders = streamed.batches(8, 5), []
    for number in (1, 2):
        seen = []
        for step, (images, labels) in enumerate(batches.epoch(number)):
            ids = batches.example_ids(number, step)
            assert all(np.array_equal(known[name], image) for name, image in zip(ids, images.numpy(), strict=True))
            assert len(labels) == 8
            seen += ids
        assert sorted(seen) == sorted(held.ids)
        orders.append(seen)
    assert orders[0] != orders[1]


@given(rows=st.integers(1, 50), batch_size=st.integers(1, 50), number=st.integers(1, 3))
def test_an_epoch_has_every_row_and_batches_of_one_size(rows, batch_size, number) -> None:
    batches = HeldBatches(tuple(map(str, range(rows))), np.arange(rows) * 3, np.arange(rows), min(batch_size, rows), 9)
    seen = list(batches.epoch(number))
    assert len(seen) == batches.steps
    assert {len(labels) for _, labels in seen} == {batches.batch_size}
    assert set(np.concatenate([labels for _, labels in seen]).tolist()) == set(range(rows))
    for step, (inputs, labels) in enumerate(seen):
        assert np.array_equal(inputs, labels * 3)
        assert batches.example_ids(number, step) == [str(label) for label in labels]


def test_a_label_that_is_no_class_is_told_with_its_row() -> None:
    with pytest.raises(InputError, match=r"a label must be from 0 to 1, a class's number, b has 2 \(1 of 2 rows"):
        check_labels(["a", "b"], np.array([0, 2]), ["x", "y"])
