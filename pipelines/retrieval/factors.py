"""Reference factors by id, as a scorer carries them: look-up, and fold-in of users who have just acted. [numpy, Arrow]

Fitting them is left to `pipelines.factors`, what towers make of them to `pipelines.models`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import CorruptDatasetError
from pipelines.storage import Dataset
from schemas.content import Side
from schemas.factors import factor_table

Floats = npt.NDArray[np.float32]
_META = b"thaw"


@dataclass(frozen=True)
class Factors:
    """Vectors of both sides, (ids, rank) float32, and what they were fitted with."""

    ids: dict[Side, pa.Array]
    vectors: dict[Side, Floats]
    alpha: float
    regularisation: float
    until: int
    """UTC microseconds: the positives that they were fitted on happened before."""

    @property
    def rank(self) -> int:
        """Numbers of a vector."""
        return int(self.vectors["item"].shape[1])

    @classmethod
    def read(cls, factors: Dataset) -> "Factors":
        """The published dataset `factors`, in the order of ids. Raises CorruptDatasetError where a side is empty."""
        ids: dict[Side, pa.Array] = {}
        vectors: dict[Side, Floats] = {}
        sides: tuple[Side, Side] = ("user", "item")
        for side in sides:
            table = factors.read_table(factor_table(side).name).sort_by(f"{side}_id")
            if not table.num_rows:
                raise CorruptDatasetError(f"{factors.path} must have factors of {side}s, it has none; fit them again")
            ids[side] = table[f"{side}_id"].combine_chunks()
            flat = table["factor"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors[side] = flat.reshape(table.num_rows, -1).astype(np.float32)
        options = factors.manifest.config["factors"]
        return cls(ids, vectors, options["alpha"], options["regularisation"], factors.manifest.as_of["fitted_until"])

    def of(self, side: Side, ids: pa.Array) -> Floats:
        """(n,) ids -> (n, rank), NaN for one that has none."""
        place = pc.index_in(ids.cast(pa.string()), self.ids[side]).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where((place >= 0)[:, None], self.vectors[side][place], np.float32(np.nan))

    def fold_in(self, histories: pa.Array) -> Floats:
        """list<string> (n,) of items that users have positives with -> (n, rank) user vectors, NaN where none is known.

        What a user's vector would be, had the fit ended on this history. It stands in the place of DropoutNet's mean of
        item vectors, which has another length than the vectors of users that the towers were trained on.
        """
        place = pc.index_in(histories.flatten().cast(pa.string()), self.ids["item"]).fill_null(-1)
        rows = pc.list_parent_indices(histories).to_numpy(zero_copy_only=False)
        places = place.to_numpy(zero_copy_only=False)
        liked = np.stack([rows, places], axis=1)[places >= 0]
        items = self.vectors["item"].astype(np.float64)
        users = solved(self._gram, items, liked, len(histories), self.alpha, self.regularisation)
        return users.astype(np.float32)

    def scaled(self, side: Side, vectors: Floats) -> Floats:
        """Vectors as a tower reads them: of mean square 1, as its other numbers are."""
        return vectors / np.float32(self._size[side])

    @cached_property
    def _size(self) -> dict[Side, float]:
        return {
            side: float(np.sqrt(np.mean(np.square(v, dtype=np.float64)))) or 1.0 for side, v in self.vectors.items()
        }

    @cached_property
    def _gram(self) -> npt.NDArray[np.float64]:
        items = self.vectors["item"].astype(np.float64)
        return items.T @ items

    def to_bytes(self) -> bytes:
        """One Arrow file; equal factors, equal bytes."""
        table = pa.table(
            {
                "side": pa.array([side for side, ids in self.ids.items() for _ in range(len(ids))], pa.string()),
                "id": pa.concat_arrays([ids.cast(pa.string()) for ids in self.ids.values()]),
                "factor": pa.FixedSizeListArray.from_arrays(
                    np.concatenate([self.vectors[side] for side in self.ids]).ravel(), self.rank
                ),
            }
        )
        told = f"{self.alpha!r} {self.regularisation!r} {self.until}".encode()
        out = pa.BufferOutputStream()
        with pa.ipc.new_file(out, table.schema.with_metadata({_META: told})) as writer:
            writer.write_table(table)
        return bytes(out.getvalue().to_pybytes())

    @classmethod
    def from_bytes(cls, content: bytes, origin: str) -> "Factors":
        """What `to_bytes` made. Raises CorruptDatasetError where it is something else."""
        try:
            table = pa.ipc.open_file(content).read_all()
            alpha, regularisation, until = table.schema.metadata[_META].decode().split()
            sides: tuple[Side, Side] = ("user", "item")
            parts = {side: table.filter(pc.equal(table["side"], side)) for side in sides}
            rank = table.schema.field("factor").type.list_size
        except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptDatasetError(
                f"{origin} must hold reference factors, it does not ({error}); train again"
            ) from None
        return cls(
            {side: part["id"].combine_chunks() for side, part in parts.items()},
            {side: _matrix(part["factor"], rank) for side, part in parts.items()},
            float(alpha),
            float(regularisation),
            int(until),
        )


def solved(
    gram: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float64],
    liked: npt.NDArray[np.int64],
    users: int,
    alpha: float,
    regularisation: float,
) -> npt.NDArray[np.float64]:
    """(users, rank) vectors of users, NaN for one who likes nothing.

    `liked` (m, 2) has pairs of a user and the row of an item in `vectors`, each counted once; `gram` is YᵀY over all
    items. A user of n items has (YᵀY + alpha·Σyyᵀ + regularisation·n·I)⁻¹ (1 + alpha)·Σy (Hu, Koren and Volinsky, ICDM
    2008, equation 4).
    """
    result = np.full((users, vectors.shape[1]), np.nan)
    known = np.unique(liked, axis=0)
    starts = np.flatnonzero(np.diff(known[:, 0], prepend=-1))
    for mine in np.split(known, starts[1:]):
        if len(mine):
            rated = vectors[mine[:, 1]]
            left = gram + alpha * rated.T @ rated + regularisation * len(rated) * np.eye(rated.shape[1])
            result[mine[0, 0]] = np.linalg.solve(left, (1 + alpha) * rated.sum(axis=0))
    return result


def _matrix(column: pa.ChunkedArray, rank: int) -> Floats:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(-1, rank)
