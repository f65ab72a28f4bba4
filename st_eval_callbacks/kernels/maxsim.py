"""MaxSim: how well each vector of a query is met by some vector of a document.

The score of a query and a document is the sum over the query's vectors of the largest dot product with any of the
document's, as in ColBERT (Khattab and Zaharia 2020); meanmaxsim divides it by the number of the query's vectors. Half
precision and integers are widened to float32 first, float64 stays float64. As in sentence-transformers, a document
without vectors scores -1e9 (meanmaxsim: divided as any score), and a query without vectors 0 with all others.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import torch
from torch import Tensor

from .product import full_precision, product_for
from .ragged_rows import RaggedRows
from .similarity import scoring_dtype

MAXSIM_NAMES = ("maxsim", "meanmaxsim")
EMPTY_DOCUMENT = -1e9
"""Score of a document without vectors."""

# Vectors of documents and of queries in one product, and so the memory it takes: 4 MiB on a CPU, where it should stay
# in the cache; 256 MiB elsewhere, where starting a kernel is what costs.
_CPU_BLOCK, _GPU_BLOCK = (2048, 512), (16384, 4096)
# Product kernels treat whole tiles alike and odd tails differently.
_TILE = 512


def check_maxsim_name(name: str) -> None:
    """Raise if no similarity of several vectors has this name.

    Args:
        name: the name to look up.

    Raises:
        ValueError: naming what is allowed and the nearest match.
    """
    if name not in MAXSIM_NAMES:
        nearest = difflib.get_close_matches(str(name), MAXSIM_NAMES, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(
            f"unknown similarity {name!r} for several vectors an input; allowed are {', '.join(MAXSIM_NAMES)}.{hint}"
        )


def all_maxsim(name: str, queries: RaggedRows, documents: RaggedRows) -> Tensor:
    """Score every query against every document.

    Args:
        name: one of ``MAXSIM_NAMES``.
        queries: Q rows.
        documents: N rows of the same width.

    Returns:
        (Q, N) scores, float32 or float64, on the device of the queries.

    Raises:
        ValueError: for an unknown name or different widths.

    Example:
        >>> import torch
        >>> query, documents = [torch.eye(2)], [torch.tensor([[0.5, 0.0], [0.0, 0.25]]), torch.tensor([[2.0, -1.0]])]
        >>> all_maxsim("maxsim", RaggedRows.of(query), RaggedRows.of(documents))
        tensor([[0.7500, 1.0000]])
        >>> all_maxsim("meanmaxsim", RaggedRows.of(query), RaggedRows.of(documents))
        tensor([[0.3750, 0.5000]])
    """
    return MaxSimScorer(name, queries, scoring_dtype(queries.vectors, documents.vectors)).score(documents)


class MaxSimScorer:
    """Scores of fixed queries against documents, which come in any portions.

    The score of a document does not depend on those it comes with: products have one shape, documents are padded with
    vectors of their own, which change no maximum, and a query's maxima are added in the order of its vectors. A lone
    small portion makes a smaller product.

    Args:
        name: one of ``MAXSIM_NAMES``.
        queries: Q rows.
        dtype: float32 or float64, in which all is computed.

    Raises:
        ValueError: for an unknown name.
    """

    def __init__(self, name: str, queries: RaggedRows, dtype: torch.dtype) -> None:
        check_maxsim_name(name)
        self._dim, self._dtype, self._device = queries.dim, dtype, queries.device
        self._num_rows, query_rows = _CPU_BLOCK if queries.device.type == "cpu" else _GPU_BLOCK
        lengths = queries.lengths
        self._divisor = lengths.clamp_min(1).to(queries.device, dtype)[:, None] if name == "meanmaxsim" else None
        # The longest first: at every step those that have a vector left are the first ones.
        order = lengths.argsort(descending=True, stable=True)
        self._column = order.argsort().to(queries.device)
        with full_precision(queries.device):
            self._chunks = [_QueryChunk(queries, part, dtype) for part in _chunks(lengths, order, query_rows)]
        self._product = product_for(self._dim, dtype, queries.device)
        self._buffer = torch.empty(0, self._dim, dtype=dtype, device=queries.device)
        self._products = self._buffer.view(-1)
        self._is_first = True

    def score(self, documents: RaggedRows) -> Tensor:
        """Score documents.

        Args:
            documents: N rows.

        Returns:
            (Q, N) scores on the device of the queries.

        Raises:
            ValueError: for documents of another width than the queries.
        """
        if documents.dim != self._dim:
            raise ValueError(f"vectors of documents must have {self._dim} dimensions, got {documents.dim}")
        lengths = documents.lengths
        shape = (len(documents), len(self._column))
        scores = torch.full(shape, EMPTY_DOCUMENT, dtype=self._dtype, device=self._device)
        groups = list(_groups(lengths, self._num_rows))
        is_alone = self._is_first and len(groups) == 1
        self._is_first = False
        with full_precision(self._device):
            for group, length in groups:
                self._read(documents, group, length, _TILE if is_alone else self._num_rows)
                places = group.to(self._device)
                start = 0
                for chunk in self._chunks:
                    end = start + chunk.num_queries
                    scores[places, start:end] = self._score(chunk, len(group), length)
                    start = end
            found = scores.T.index_select(0, self._column)
            return found if self._divisor is None else found.div_(self._divisor)

    def _read(self, documents: RaggedRows, group: Tensor, length: int, multiple: int) -> None:
        """Put the vectors of a group into the buffer, each document filled up with its last vector."""
        num_rows = -(-len(group) * length // multiple) * multiple
        if len(self._buffer) != num_rows:
            self._buffer = self._buffer.new_zeros(num_rows, self._dim)
        steps = torch.minimum(torch.arange(length), documents.lengths[group][:, None] - 1)
        places = (documents.offsets[group][:, None] + steps).view(-1).to(documents.device)
        out, table = self._buffer[: len(places)], documents.vectors
        if table.dtype == out.dtype and table.device == out.device:
            torch.index_select(table, 0, places, out=out)
        else:
            out.copy_(table.index_select(0, places))

    def _score(self, chunk: _QueryChunk, num_documents: int, length: int) -> Tensor:
        """(B, queries of the chunk) scores of the documents in the buffer."""
        num_columns = len(chunk.vectors)
        size = len(self._buffer) * num_columns
        if len(self._products) < size:
            self._products = self._buffer.new_empty(size)
        out = self._products[:size].view(len(self._buffer), num_columns)
        products = self._product(self._buffer, chunk.vectors, out)[: num_documents * length]
        best = products.view(num_documents, length, num_columns).amax(dim=1)
        scores = best.new_zeros(num_documents, chunk.num_queries)
        start = 0
        for num_left in chunk.steps:
            scores[:, :num_left] += best[:, start : start + num_left]
            start += num_left
        return scores


class _QueryChunk:
    """Some queries, the longest first: the first vector of each, then the second of those that have two, and so on."""

    def __init__(self, queries: RaggedRows, places: Tensor, dtype: torch.dtype) -> None:
        lengths, first = queries.lengths[places], queries.offsets[places]
        self.num_queries = len(places)
        self.steps = [int((lengths > step).sum()) for step in range(int(lengths[0]))]
        index = torch.cat([first[:num_left] + step for step, num_left in enumerate(self.steps)] or [first[:0]])
        self.vectors = queries.vectors.index_select(0, index.to(queries.device)).to(dtype)


def _chunks(lengths: Tensor, order: Tensor, num_rows: int) -> Iterator[Tensor]:
    """Cut queries into runs of at most so many vectors, and of one query at least."""
    totals = torch.cat([lengths.new_zeros(1), lengths[order].cumsum(0)])
    start = 0
    while start < len(order):
        end = int(torch.searchsorted(totals, totals[start] + num_rows, right=True)) - 1
        end = max(end, start + 1)
        yield order[start:end]
        start = end


def _groups(lengths: Tensor, num_rows: int) -> Iterator[tuple[Tensor, int]]:
    """Put documents of about the same length together, as many as have so many vectors when filled up.

    Documents without vectors are in no group.

    Yields:
        Places of the documents, and the length of the longest.
    """
    ordered, order = lengths.sort(descending=True, stable=True)
    num, start = int((lengths > 0).sum()), 0
    while start < num:
        length = int(ordered[start])
        end = min(start + max(num_rows // length, 1), num)
        yield order[start:end], length
        start = end
