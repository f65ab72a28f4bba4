"""Two processes: what each encodes, receives and holds, beside sentence-transformers' `distributed_evaluation`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import util

from st_eval_callbacks.encoding.encoder import own_places
from st_eval_callbacks.kernels.shares import Shares

from . import scale
from .compare import OURS, PEER, Settings
from .measure import largest_difference
from .one_process import DIM, K, arguments
from .report import Section, Verdict, mib_text, seconds_text
from .scale_page import bytes_text

NAME = "two processes"
NUM_PROCESSES = 2
_SIZES = {"full": (1_000, (1_000, 10_000, 100_000)), "quick": (200, (1_000,)), "smallest": (5, (60,))}
_ROOT = Path(__file__).parents[1]
_TOLERANCE = 1e-6
_TIMEOUT = 1_800


def launch(num_queries: int, sizes: Sequence[int], threads: int) -> list[dict[str, Any]]:
    """What each process counted, by number of documents and side.

    Raises:
        RuntimeError: When a process ended early.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={NUM_PROCESSES}", "--standalone"]
        command += ["-m", "benchmarks.one_process", folder, str(threads), str(num_queries), *map(str, sizes)]
        done = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the processes ended with {done.returncode}:\n{done.stderr[-3000:]}")
        paths = [Path(folder) / f"told_{index}.json" for index in range(NUM_PROCESSES)]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def run(settings: Settings) -> list[Section]:
    """The table."""
    num_queries, sizes = _SIZES[settings.size]
    if not hasattr(getattr(util, "distributed", None), "distributed_evaluation"):
        return [Section("Two processes", ("",), notes=[f"{PEER} has no `distributed_evaluation` below 6.2."])]
    settings.say(f"{NAME}: {', '.join(f'{size:,}' for size in sizes)} documents")
    told = launch(num_queries, sizes, settings.threads)
    section = Section(
        f"Two processes: {num_queries:,} queries, {DIM} dimensions, k {K}",
        (
            "documents",
            "",
            "texts encoded, main + other",
            "embeddings and hits received",
            "by formula",
            "texts received",
            "by formula",
            "meetings or messages",
            "by formula",
            "peak MiB",
            "time",
            "largest difference",
        ),
        brief=(0, 1, 2, 3, 5, 9, 11),
    )
    for size in sizes:
        each = {name: [one[str(size)][name] for one in told] for name in (OURS, PEER)}
        values = [one["values"] for one in each[OURS]] + [each[PEER][0]["values"]]
        found = largest_difference(values[0], values[-1])
        assert found is not None
        assert values[0] == values[1]
        section.verdicts.append(
            Verdict(
                f"{NAME}, {size:,} documents",
                f"values within {_TOLERANCE:g} of {PEER}'s",
                f"{found[0]:.1e} in {found[1]}",
                found[0] <= _TOLERANCE,
            )
        )
        difference = f"{found[0]:.1e} in {found[1]}"
        section.rows += [_our_row(num_queries, size, each[OURS]), _st_row(num_queries, size, each[PEER], difference)]
    section.notes = [
        "Cells tell of the main process and the other one; pickled messages have a frame that the formula leaves out. "
        "Where a corpus has at most 16,384 documents, ours gathers its embeddings on every process. Peak memory is "
        f"that above the inputs, of a first run on all {NUM_PROCESSES} processes at once, whose time it is.",
    ]
    return [section]


def _our_row(num_queries: int, num_documents: int, each: list[dict[str, Any]]) -> tuple[str, ...]:
    given = list(arguments(num_queries, num_documents)["corpus"].values())
    everyone = [Shares(index, NUM_PROCESSES) for index in range(NUM_PROCESSES)]
    owned = [len(own_places(given, shares)) for shares in everyone]
    costs = [scale.retrieval(num_queries, owned, DIM, K, shares) for shares in everyone]
    return (
        f"{num_documents:,}",
        OURS,
        _both(f"{one['encoded']:,}" for one in each),
        _both(bytes_text(one["received"]) for one in each),
        _both(bytes_text(cost.num_bytes) for cost in costs),
        "-",
        "-",
        f"{each[0]['meetings']}",
        f"{costs[0].num_meetings}",
        *_taken(each),
        "-",
    )


def _st_row(num_queries: int, num_documents: int, each: list[dict[str, Any]], difference: str) -> tuple[str, ...]:
    num_characters = len(next(iter(arguments(1, 1)["corpus"].values())))
    served = scale.served_retrieval(num_queries, num_documents, DIM, num_characters, NUM_PROCESSES)
    return (
        f"{num_documents:,}",
        PEER,
        _both(f"{one['encoded']:,}" for one in each),
        f"{bytes_text(sum(one['embeddings_sent'] for one in each[1:]))} + 0 B",
        f"{bytes_text(served.received)} + 0 B",
        f"0 B + {bytes_text(each[1]['texts_received'])}",
        f"0 B + {bytes_text(served.sent)}",
        f"{each[0]['messages']}",
        f"{served.num_messages}",
        *_taken(each),
        difference,
    )


def _taken(each: list[dict[str, Any]]) -> tuple[str, str]:
    return _both(mib_text(one["peak_mib"]) for one in each), seconds_text(each[0]["seconds"])


def _both(texts: Any) -> str:
    return " + ".join(texts)
