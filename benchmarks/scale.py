"""What an evaluation on several processes exchanges, holds and computes: counts by formula, no time.

`tests/test_scale.py` compares them with what is counted in runs; `docs/scale.md` shows what they give for large ones.
A process is told by its `Shares`: which one it is, and of how many. Texts are distinct here, and embeddings float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from st_eval_callbacks.kernels.shares import Shares

FLOAT = 4
HIT = FLOAT + 8
"""Bytes of a score and a position."""
NEIGHBOUR = HIT + 8
"""Bytes of a score, a row and the row that is near it."""

MERGED_HIT = 52
"""Bytes that merging takes for each hit received: received, joined, ordered by position, sorted."""
CPU_BLOCKS = 35 * 2**20
"""Bytes that a search takes for blocks of scores and for choosing among them, on a CPU; sizes hardly matter."""
OUR_DOCUMENT, ST_DOCUMENT = 260, 150
"""Bytes that Python takes for a document besides its characters: objects, the caller's dict, the evaluator's lists."""

CPU_SHARE, GPU_SHARE = 512, 8192
MOST_GATHERED = 16384
ST_CHUNK = 50_000


@dataclass(frozen=True)
class Cost:
    """What one process takes.

    Attributes:
        num_bytes: Bytes of tensors received from the others.
        num_meetings: Meetings of all.
    """

    num_bytes: int = 0
    num_meetings: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.num_bytes + other.num_bytes, self.num_meetings + other.num_meetings)


def total(costs: Iterable[Cost]) -> Cost:
    """All of them together."""
    return sum(costs, Cost())


# -- ours ---------------------------------------------------------------------------------------------------


def union(num_texts: int, dim: int, shares: Shares, share: int = CPU_SHARE) -> Cost:
    """Texts that all processes get the embeddings of: each encodes some and receives the rest, piece by piece."""
    costs = []
    for start in range(0, num_texts, share * shares.num):
        dealt = min(share * shares.num, num_texts - start)
        own = len(range(shares.index, dealt, shares.num))
        costs.append(Cost((dealt - own) * dim * FLOAT, 1))
    return total(costs)


def stream(owned: Sequence[int], share: int = CPU_SHARE) -> Cost:
    """A corpus of which process p searches `owned[p]` documents: nothing is received, but all stay in step."""
    return Cost(num_meetings=1 + math.ceil(max(owned) / share))


def hits(num_queries: int, k: int, shares: Shares, num_functions: int = 1) -> Cost:
    """The best of each part of a corpus: scores, positions, and whether a score was NaN.

    Each process merges the hits of a range of the queries and gives what is best to all.
    """
    own = shares.part(num_queries)
    num_own = own.stop - own.start
    num_hits = ((shares.num - 1) * num_own + num_queries - num_own) * k
    return Cost((num_hits * HIT + (shares.num - 1) * num_queries) * num_functions, 5 * num_functions)


def ties(num_queries: int, num_watched: int, shares: Shares) -> Cost:
    """What `ties="expected"` adds: documents tied with the last hit, scores of the relevant ones and who has them."""
    own = shares.part(num_queries)
    num_own = own.stop - own.start
    num_counts = (shares.num - 1) * num_own + num_queries - num_own
    return Cost(num_counts * 8 + (shares.num - 1) * num_watched * (1 + FLOAT), 4)


def pairwise(num_pairs: int, shares: Shares, num_functions: int = 1) -> Cost:
    """Scores of pairs, of which each process computes a range."""
    own = shares.part(num_pairs)
    return Cost((num_pairs - own.stop + own.start) * FLOAT * num_functions, num_functions)


def mining(num_texts: int, top_k: int, max_pairs: int, shares: Shares, block: int = 1024) -> Cost:
    """The neighbours that each process found in its blocks of the matrix; not more than the best pairs can need."""
    num_bytes = 0
    for other in range(shares.num):
        found = num_neighbours(num_texts, top_k, Shares(other, shares.num), block)
        num_bytes += min(found, 2 * max_pairs) * NEIGHBOUR * (other != shares.index)
    return Cost(num_bytes, math.ceil(num_texts / block) + 3)


def num_neighbours(num_texts: int, top_k: int, shares: Shares, block: int = 1024) -> int:
    """Neighbours that a process finds: for each text the nearest of those that its blocks compare with it."""
    widths = [min(block, num_texts - start) for start in range(0, num_texts, block)]
    compared = [0] * len(widths)
    turn = 0
    for one, width in enumerate(widths):
        for other in range(one, len(widths)):
            turn += 1
            if turn % shares.num == shares.index:
                compared[one] += widths[other] - (one == other)
                compared[other] += width * (one != other)
    return sum(width * min(top_k, num) for width, num in zip(widths, compared, strict=True))


def translation(num_pairs: int, shares: Shares, most_columns: int = 4096) -> Cost:
    """The best match of each text in the rows that a process compared, in both directions."""
    return Cost((shares.num - 1) * 2 * num_pairs * HIT, math.ceil(num_pairs / most_columns) + 4)


def event(num_evaluators: int) -> Cost:
    """Meetings of an event besides those of its work: ends of blocks, and values that come from the main process."""
    return Cost(num_meetings=1 + 2 * num_evaluators + 2)


def retrieval(
    num_queries: int,
    owned: Sequence[int],
    dim: int,
    k: int,
    shares: Shares,
    *,
    num_functions: int = 1,
    share: int = CPU_SHARE,
    most_gathered: int = MOST_GATHERED,
) -> Cost:
    """An event of one retrieval evaluator; a short corpus is gathered with the queries.

    Args:
        num_queries: Queries.
        owned: Documents that each process searches.
        dim: Width of the embeddings.
        k: Hits of a query.
        shares: The process.
        num_functions: Similarity functions.
        share: Texts that a process encodes between two meetings.
        most_gathered: Documents up to which a corpus is short.

    Returns:
        What the process takes.
    """
    gathered = num_queries + (sum(owned) if sum(owned) <= most_gathered else 0)
    parts = [union(gathered, dim, shares, share), stream(owned, share), hits(num_queries, k, shares, num_functions)]
    return total([*parts, event(1)])


def most_owned(num_documents: int, num_processes: int) -> int:
    """Documents on the process that gets most of them, as a rule: a checksum of each text decides where it goes."""
    mean = num_documents / num_processes
    deviation = math.sqrt(mean * (1 - 1 / num_processes))
    return min(math.ceil(mean + deviation * math.sqrt(2 * math.log(num_processes))), num_documents)


def held_for_search(num_queries: int, dim: int, k: int, share: int = CPU_SHARE) -> int:
    """Bytes of a search besides its blocks of scores.

    Queries kept, in order, and normalised; candidates and the hits made of them; a portion of documents, twice.
    """
    return num_queries * (3 * dim * FLOAT + (3 * k + 128) * HIT) + 2 * share * dim * FLOAT


def held_for_merge(num_queries: int, k: int, num_processes: int) -> int:
    """Bytes that merging hits takes at its peak: those of a range of the queries, from all processes."""
    return math.ceil(num_queries / num_processes) * num_processes * k * MERGED_HIT


# -- other ways to merge ------------------------------------------------------------------------------------


def hits_by_tree(num_queries: int, k: int, num_processes: int) -> int:
    """Bytes received if processes merged hits two by two, in so many rounds that all have them."""
    return math.ceil(math.log2(num_processes)) * num_queries * k * HIT


def hits_by_all(num_queries: int, k: int, num_processes: int) -> int:
    """Bytes received if every process merged the hits of all queries."""
    return (num_processes - 1) * num_queries * k * HIT


# -- sentence-transformers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """What `distributed_evaluation` exchanges, besides the frame of a message.

    Attributes:
        received: Bytes of embeddings that the main process receives.
        sent: Bytes of texts that it sends.
        num_messages: How often it sends or receives.
    """

    received: int
    sent: int
    num_messages: int


def served(num_texts: Sequence[int], dim: int, num_characters: int, num_processes: int) -> Served:
    """Texts that an evaluator on the main process encodes, in calls of so many: the others get and return most."""
    main = Shares(0, num_processes)
    away = sum(num - main.part(num).stop for num in num_texts)
    return Served(away * dim * FLOAT, away * num_characters, 2 * len(num_texts) + 1)


def served_retrieval(
    num_queries: int, num_documents: int, dim: int, num_characters: int, num_processes: int
) -> Served:
    """A retrieval evaluator: the queries, then the corpus in chunks."""
    chunks = [min(ST_CHUNK, num_documents - start) for start in range(0, num_documents, ST_CHUNK)]
    return served([num_queries, *chunks], dim, num_characters, num_processes)


def held_by_served(num_queries: int, num_documents: int, dim: int) -> int:
    """Bytes that the main process holds at least: the queries, a chunk received and joined, and its scores."""
    chunk = min(ST_CHUNK, num_documents)
    return (num_queries + 2 * chunk) * dim * FLOAT + num_queries * chunk * FLOAT
