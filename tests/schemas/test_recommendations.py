import numpy as np
import pyarrow as pa

from pipelines.storage import Dataset, write_arrow
from schemas.manifest import Manifest
from schemas.recommendations import embedding_table


def test_embeddings_are_lists_of_one_length_that_numpy_reads_as_they_lie(tmp_path) -> None:
    contract = embedding_table("user", 3)
    vectors = np.arange(6, dtype=np.float32)
    table = pa.table({"user_id": ["a", "b"], "embedding": pa.FixedSizeListArray.from_arrays(vectors, 3)})
    entry = write_arrow(str(tmp_path), contract.name, table, contract)
    found = Dataset(str(tmp_path), Manifest(dataset="x", tables={contract.name: entry}, seed=1)).read_table(
        contract.name
    )
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), 3)
    assert entry.columns[1].length == 3
    flat = found["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=True)
    assert flat.reshape(2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
