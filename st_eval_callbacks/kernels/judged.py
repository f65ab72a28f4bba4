"""What is judged among the hits: for measures that tell "not relevant" from "nobody looked"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .sorting import FloatArray, IntArray


@dataclass(frozen=True)
class JudgedHits:
    """Which hits somebody has judged.

    Attributes:
        judged: Shape ``(Q, depth)``, bool: hits that were judged for the query, relevant or not.
        unknown: Shape ``(Q, depth)``, bool: hits that were judged for no query at all.
        num_nonrelevant: Shape ``(Q,)``: number of documents judged not relevant to the query, retrieved or not.
        num_hits: Shape ``(Q,)``: number of hits; fewer than depth where the corpus has no more.
    """

    judged: Tensor
    unknown: Tensor
    num_nonrelevant: Tensor
    num_hits: Tensor

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: If they don't fit each other.
        """
        if self.judged.ndim != 2 or self.unknown.shape != self.judged.shape:
            raise ValueError("judged and unknown must both be (Q, depth).")
        if any(one.shape != self.judged.shape[:1] for one in (self.num_nonrelevant, self.num_hits)):
            raise ValueError(f"num_nonrelevant and num_hits must have shape ({len(self.judged)},).")


def counts_at(mask: Tensor, cutoffs: tuple[int, ...]) -> FloatArray:
    """How many entries of each row are True before each cutoff.

    Args:
        mask: Shape ``(Q, depth)``, bool.
        cutoffs: Columns of the result; they may exceed the depth.

    Returns:
        Shape ``(Q, len(cutoffs))``, float64.

    >>> import torch
    >>> counts_at(torch.tensor([[True, False, True]]), (1, 2, 9)).tolist()
    [[1.0, 1.0, 2.0]]
    """
    so_far = np.zeros((len(mask), mask.shape[1] + 1))
    np.cumsum(mask.cpu().numpy(), axis=1, out=so_far[:, 1:])
    return so_far[:, np.minimum(cutoffs, mask.shape[1])]


def preference_sums(query: IntArray, place: IntArray, num_relevant: IntArray, judged: JudgedHits) -> FloatArray:
    """Sum over the relevant hits of the share of judged documents not relevant that do not stand above them.

    For a relevant hit with n documents judged not relevant above it, that is 1 - min(n, R) / min(N, R), where R and N
    are the numbers of documents judged relevant and not relevant; 1 where n is 0. Divided by R it is bpref (Buckley
    and Voorhees, "Retrieval Evaluation with Incomplete Information", SIGIR 2004), as trec_eval computes it.

    Args:
        query: Shape ``(H,)``: row of each relevant hit.
        place: Shape ``(H,)``: its place, from 0.
        num_relevant: Shape ``(Q,)``.
        judged: What is judged.

    Returns:
        Shape ``(Q,)``.
    """
    nonrelevant = judged.judged.cpu().numpy().copy()
    nonrelevant[query, place] = False
    above = np.cumsum(nonrelevant, axis=1)[query, place]
    most = num_relevant[query]
    fewest = np.minimum(judged.num_nonrelevant.cpu().numpy(), num_relevant)[query]
    lost = np.divide(np.minimum(above, most), fewest, out=np.zeros(len(query)), where=fewest > 0)
    sums: FloatArray = np.bincount(query, 1.0 - lost, minlength=len(num_relevant)).astype(np.float64)
    return sums
