"""What the towers are measured against on CiteULike: nothing is trained but the ALS. [numpy, scipy]"""

from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.utils.extmath import randomized_svd

from benchmarks._citeulike import Articles, Floats, Scores, Split, dot_scores, tfidf
from pipelines.evaluation.content_knn import unit_rows

SVD_WIDTH = 600
RIDGE = 10.0
LEAST_LENGTH = 0.1


def content_space(articles: Articles) -> Any:
    """Tags, citations and words as tf-idf, unit rows."""
    blocks = [block for block in (articles.tags, articles.citations) if block is not None]
    space = tfidf(sparse.hstack(blocks, format="csr"))
    if articles.words is None:
        return space
    words = articles.words.copy()
    words.data = np.log1p(words.data)
    return unit_rows(sparse.hstack([space, tfidf(words)], format="csr"))


def dense_content(space: Any, width: int, seed: int) -> Floats:
    """(items, width) rows of length 1: the directions of largest variance (truncated SVD; Halko et al. 2011).

    A row of which these hold next to nothing, an article with no tag and no link, stays short: it would be noise.
    """
    left, lengths, _ = randomized_svd(space.astype(np.float32), width, n_iter=4, random_state=seed)
    rows = left * lengths
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST_LENGTH), np.float32)


def random_scores(split: Split, seed: int) -> Scores:
    """A ranking of its own for every user."""
    generator = np.random.default_rng(seed)
    return lambda start, stop: generator.random((stop - start, split.train.shape[1]))


def popularity(split: Split) -> Scores:
    """Training pairs of the item."""
    counts = np.asarray(split.train.sum(axis=0)).ravel()
    return lambda start, stop: np.tile(counts, (stop - start, 1))


def content_knn(split: Split, space: Any) -> Scores:
    """Cosine of the item to the mean of the user's items."""
    profiles, transposed = unit_rows(split.train @ space), space.T.tocsr()
    return lambda start, stop: (profiles[start:stop] @ transposed).toarray()


def item_knn(split: Split) -> Scores:
    """Cosine of the items' sets of users, summed over the user's items (Sarwar et al. 2001)."""
    columns = unit_rows(split.train.T.tocsr())
    similar = (columns @ columns.T).tocsr()
    return lambda start, stop: (split.train[start:stop] @ similar).toarray()


def ridge_scores(split: Split, dense: Floats, users: Floats, items: Floats) -> Scores:
    """Items' ALS factors from their content, linearly; items of the training pairs are fitted, each once."""
    known = split.train.getnnz(axis=0) > 0
    solved = ridge(dense[known], items[known])
    return dot_scores(users, dense @ solved[:-1] + solved[-1])


def ridge(inputs: Floats, targets: Floats) -> Floats:
    """(width + 1, targets): a linear map, its last row the intercept, all of it damped by RIDGE."""
    inputs = np.hstack([inputs, np.ones((len(inputs), 1), inputs.dtype)])
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1], dtype=inputs.dtype)
    return np.asarray(np.linalg.solve(gram, inputs.T @ targets))
