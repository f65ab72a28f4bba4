"""Similarity of embeddings: all pairs, listed pairs, and blocks of documents for a fixed set of queries.

Scores are similarities: a higher score is closer, and distances are negated. Half precision and integers are widened
to float32 before anything else, float64 stays float64.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .product import full_precision, product_for

SIMILARITY_NAMES = ("cosine", "dot", "euclidean", "manhattan")

# Smallest length a row is divided by, as in torch.nn.functional.normalize: a row of zeros keeps the score 0.
_EPS = 1e-12
# Up to this width euclidean distances come from differences, which are exact where |q|^2 + |d|^2 - 2qd cancels; for
# wider embeddings they would take many times as long as the product.
_MAX_DIRECT_DIM = 16


def widen(embeddings: Tensor) -> Tensor:
    """Return embeddings in the precision they are scored in: float64 stays, everything else becomes float32.

    Args:
        embeddings: a tensor of any real dtype.

    Returns:
        The same tensor, or a float32 copy; without gradient.
    """
    return embeddings.detach().to(torch.float64 if embeddings.dtype == torch.float64 else torch.float32)


def check_similarity_name(name: str) -> None:
    """Raise if no similarity has this name.

    Args:
        name: the name to look up.

    Raises:
        ValueError: naming what is allowed and the nearest match.
    """
    if name not in SIMILARITY_NAMES:
        nearest = difflib.get_close_matches(str(name), SIMILARITY_NAMES, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"unknown similarity {name!r}; allowed are {', '.join(SIMILARITY_NAMES)}.{hint}")


def all_pairs(name: str, queries: Tensor, documents: Tensor) -> Tensor:
    """Score every query against every document.

    Cosine normalises each row and takes dot products; euclidean and manhattan are negated distances.

    Args:
        name: one of ``SIMILARITY_NAMES``.
        queries: (Q, d) embeddings.
        documents: (N, d) embeddings.

    Returns:
        (Q, N) scores, float32 or float64; cosine within [-1, 1] up to rounding, distances at most 0.

    Raises:
        ValueError: for an unknown name or shapes that don't fit.

    Example:
        >>> import torch
        >>> all_pairs("dot", torch.tensor([[1, 2]]), torch.tensor([[3, 4], [0, 1]]))
        tensor([[11.,  2.]])
        >>> all_pairs("euclidean", torch.tensor([[0, 0]]), torch.tensor([[3, 4]]))
        tensor([[-5.]])
    """
    check_similarity_name(name)
    queries, documents = _matching(queries, documents)
    with full_precision(queries.device):
        if name == "manhattan":
            return -torch.cdist(queries, documents, p=1.0)
        if name == "euclidean":
            return -torch.cdist(queries, documents, p=2.0)
        if name == "cosine":
            queries, documents = normalize(queries, eps=_EPS), normalize(documents, eps=_EPS)
        return torch.mm(queries, documents.T)


def pairwise(
    names: Sequence[str],
    left: Tensor,
    right: Tensor,
    left_index: Tensor | None = None,
    right_index: Tensor | None = None,
    block_size: int = 1024,
) -> dict[str, Tensor]:
    """Score listed pairs under several similarities in one pass.

    Rows are read by index in blocks, so that many pairs over few distinct texts never copy the embeddings as a whole.

    Args:
        names: any of ``SIMILARITY_NAMES``.
        left: (U, d) embeddings.
        right: (V, d) embeddings.
        left_index: (P,) row of ``left`` in each pair; None for all rows in order.
        right_index: (P,) row of ``right`` in each pair; None for all rows in order.
        block_size: how many pairs are read at once. The scores do not depend on it.

    Returns:
        For each name (P,) scores, float32 or float64.

    Raises:
        ValueError: for an unknown name, shapes that don't fit, or two lists of different length.

    Example:
        >>> import torch
        >>> table = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
        >>> scores = pairwise(["cosine", "manhattan"], table, table, torch.tensor([0, 0]), torch.tensor([0, 1]))
        >>> scores["cosine"], scores["manhattan"]
        (tensor([1.0000, 0.8000]), tensor([-0., -5.]))
    """
    for name in names:
        check_similarity_name(name)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"embeddings must be (U, d) and (V, d), got {tuple(left.shape)} and {tuple(right.shape)}")
    num_pairs = len(left) if left_index is None else len(left_index)
    if num_pairs != (len(right) if right_index is None else len(right_index)):
        raise ValueError("the two sides list different numbers of pairs")
    dtype = _scoring_dtype(left, right)
    results = {name: torch.empty(num_pairs, dtype=dtype, device=left.device) for name in names}
    with full_precision(left.device):
        lengths = [_row_lengths(side, dtype) for side in (left, right)] if "cosine" in results else None
        for start in range(0, num_pairs, block_size):
            rows = slice(start, min(start + block_size, num_pairs))
            a, b = _read(left, left_index, rows, dtype), _read(right, right_index, rows, dtype)
            if "dot" in results:
                torch.sum(a * b, dim=1, out=results["dot"][rows])
            if "euclidean" in results or "manhattan" in results:
                difference = a - b
                if "euclidean" in results:
                    results["euclidean"][rows] = -torch.linalg.vector_norm(difference, dim=1)
                if "manhattan" in results:
                    results["manhattan"][rows] = -difference.abs_().sum(dim=1)
            if lengths is not None:
                a = a / _read(lengths[0], left_index, rows, dtype)
                b = b / _read(lengths[1], right_index, rows, dtype)
                torch.sum(a.mul_(b), dim=1, out=results["cosine"][rows])
    return results


class QueryScorer:
    """Scores of a fixed set of queries against blocks of documents, all of one shape.

    Preparing (normalising, squared lengths) happens once for each query and once for each block of documents, not once
    for each pair of blocks.

    Args:
        name: one of ``SIMILARITY_NAMES``.
        queries: (Q, d) embeddings, float32 or float64.
    """

    def __init__(self, name: str, queries: Tensor) -> None:
        check_similarity_name(name)
        self._score: Callable[[Tensor, Tensor, Tensor], Tensor] = self._dot
        dim = queries.shape[1]
        self._dim = self.width = dim
        self._normalise = name == "cosine"
        if name == "cosine":
            queries = normalize(queries, eps=_EPS)
        elif name == "manhattan" or (name == "euclidean" and dim <= _MAX_DIRECT_DIM):
            self._p = 1.0 if name == "manhattan" else 2.0
            self._score = self._distance
        elif name == "euclidean":
            # Two more columns make the product |q|^2 - 2qd + |d|^2: no pass over the scores for the two sums.
            self.width = dim + 2
            squared = queries.square().sum(dim=1, keepdim=True)
            queries = torch.cat([queries * -2, squared, torch.ones_like(squared)], dim=1)
            self._score = self._euclidean
        self.queries = queries
        self._product = product_for(self.width, queries.dtype, queries.device)

    def prepare(self, block: Tensor) -> None:
        """Prepare a block of documents in place.

        Args:
            block: (B, width) whose first d columns hold the embeddings.
        """
        if self._normalise:
            normalize(block, eps=_EPS, out=block)
        elif self.width > self._dim:
            block[:, self._dim] = 1
            torch.sum(block[:, : self._dim].square(), dim=1, out=block[:, self._dim + 1])

    def score(self, rows: slice, block: Tensor, out: Tensor) -> Tensor:
        """Score some queries against a prepared block.

        Args:
            rows: which queries.
            block: (B, width) prepared documents.
            out: (rows, B) buffer that may be written.

        Returns:
            (rows, B) scores, in ``out`` or in a new tensor that the caller may write.
        """
        return self._score(self.queries[rows], block, out)

    def _dot(self, queries: Tensor, block: Tensor, out: Tensor) -> Tensor:
        return self._product(queries, block, out)

    def _euclidean(self, queries: Tensor, block: Tensor, out: Tensor) -> Tensor:
        return self._product(queries, block, out).clamp_min_(0).sqrt_().neg_()

    def _distance(self, queries: Tensor, block: Tensor, out: Tensor) -> Tensor:
        mode = "donot_use_mm_for_euclid_dist"
        return torch.cdist(queries, block, p=self._p, compute_mode=mode).neg_()


def _scoring_dtype(left: Tensor, right: Tensor) -> torch.dtype:
    return torch.float64 if torch.float64 in (left.dtype, right.dtype) else torch.float32


def _matching(queries: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        shapes = f"{tuple(queries.shape)} and {tuple(documents.shape)}"
        raise ValueError(f"embeddings must be (Q, d) and (N, d), got {shapes}")
    dtype = _scoring_dtype(queries, documents)
    return queries.detach().to(dtype), documents.detach().to(dtype)


def _read(table: Tensor, index: Tensor | None, rows: slice, dtype: torch.dtype) -> Tensor:
    return (table[rows] if index is None else table.index_select(0, index[rows])).to(dtype)


def _row_lengths(table: Tensor, dtype: torch.dtype) -> Tensor:
    lengths = torch.empty(len(table), 1, dtype=dtype, device=table.device)
    for start in range(0, len(table), 4096):
        part = table[start : start + 4096].to(dtype)
        lengths[start : start + 4096] = torch.linalg.vector_norm(part, dim=1, keepdim=True).clamp_min_(_EPS)
    return lengths
