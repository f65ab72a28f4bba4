"""Tells the peak of memory of a search or a merge, in a process where nothing ran before."""

from __future__ import annotations

import sys

import torch

from benchmarks import measure
from st_eval_callbacks.kernels.hits import Hits, merge_hits
from st_eval_callbacks.kernels.topk import StreamingSearch


def search(num_queries: int, dim: int, k: int, block_size: int) -> float:
    """Forty blocks of documents go through a search."""
    found = StreamingSearch(torch.randn(num_queries, dim), k, "cosine")
    for _ in range(40):
        found.add(torch.randn(block_size, dim))
    return float(found.result().scores.sum())


def merge(num_processes: int, num_queries: int, k: int) -> float:
    """The hits of several processes are merged."""
    each = [
        Hits(torch.randn(num_queries, k).sort(dim=1, descending=True).values, torch.randint(9**6, (num_queries, k)))
        for _ in range(num_processes)
    ]
    return float(merge_hits(each, k).scores.sum())


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    work = {"search": search, "merge": merge}[sys.argv[1]]
    peak = measure.with_peak(lambda: work(*map(int, sys.argv[2:]))).peak_mib
    sys.stdout.write(f"{peak}\n")
