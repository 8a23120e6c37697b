"""Factors without the pair at hand: a vector may be an input of a row whose label had no part in it. [numpy]"""

from typing import Any

import numpy as np

from benchmarks._citeulike import Floats


def leave_one_out(train: Any, others: Floats, alpha: float, regularisation: float) -> tuple[Floats, Floats]:
    """The implicit ALS step for the rows of `train` (CSR), and the same without each pair.

    A row x minimises Σ_j c_j (p_j - x·y_j)² + λ n |x|² over all columns' vectors y, given as `others` (columns, f),
    where p_j = 1 and c_j = 1 + α for the row's n pairs, else 0 and 1 (Hu, Koren and Volinsky, ICDM 2008, with MLlib's
    weighted λ). Taking a pair away is a rank-one change of the normal equations, so that all n solutions of a row cost
    one factorisation (Sherman and Morrison 1950); λ n stays as it is. Returns (rows, f), zeros for a row without pairs,
    and (pairs, f) in the order of `train.indices`.
    """
    gram = others.T.astype(np.float64) @ others
    whole = np.zeros((train.shape[0], others.shape[1]), np.float32)
    left_out = np.empty((train.nnz, others.shape[1]), np.float32)
    for row in np.flatnonzero(np.diff(train.indptr)):
        pairs = slice(train.indptr[row], train.indptr[row + 1])
        known = others[train.indices[pairs]].astype(np.float64)
        normal = gram + alpha * (known.T @ known) + regularisation * len(known) * np.eye(len(gram))
        solved = np.linalg.solve(normal, known.T).T
        x = (1 + alpha) * solved.sum(axis=0)
        own = np.einsum("nf,nf->n", known, solved)
        shift = alpha * (known @ x - (1 + alpha) * own) / (1 - alpha * own)
        whole[row] = x
        left_out[pairs] = x + (shift - (1 + alpha))[:, None] * solved
    return whole, left_out
