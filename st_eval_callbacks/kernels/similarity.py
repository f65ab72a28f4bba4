"""Similarity of embeddings: all pairs, and blocks of documents for a fixed set of queries.

Scores are similarities: a higher score is closer, and distances are negated. Half precision and integers are widened
to float32 before anything else, float64 stays float64.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .product import full_precision, product_for

SIMILARITY_NAMES = ("cosine", "dot", "euclidean", "manhattan")

# Smallest length a row is divided by, as in torch.nn.functional.normalize: a row of zeros keeps the score 0.
EPS = 1e-12
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
            queries, documents = normalize(queries, eps=EPS), normalize(documents, eps=EPS)
        return torch.mm(queries, documents.T)


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
            queries = normalize(queries, eps=EPS)
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
            normalize(block, eps=EPS, out=block)
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


def scoring_dtype(left: Tensor, right: Tensor) -> torch.dtype:
    """The type in which two tables are compared: float64 if one of them is, else float32."""
    return torch.float64 if torch.float64 in (left.dtype, right.dtype) else torch.float32


def _matching(queries: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        shapes = f"{tuple(queries.shape)} and {tuple(documents.shape)}"
        raise ValueError(f"embeddings must be (Q, d) and (N, d), got {shapes}")
    dtype = scoring_dtype(queries, documents)
    return queries.detach().to(dtype), documents.detach().to(dtype)
