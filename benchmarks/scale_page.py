"""The tables of `docs/scale.md`: what the counts of `scale.py` give for a large corpus.

``python -m benchmarks.scale_page`` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from st_eval_callbacks.kernels.shares import Shares

from . import scale
from .report import Section

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- counted by benchmarks/scale_page.py -->", "<!-- end of what is counted -->"

NUM_QUERIES, NUM_DOCUMENTS, DIM, K = 10_000, 10_000_000, 768, 100
NUM_CHARACTERS = 500
NUM_TEXTS = 100_000
# Processes, and nodes they stand on.
LAYOUTS = ((8, 1), (8, 8), (64, 1), (64, 8))
NUMS_PROCESSES = (8, 64)


def bytes_text(number: float) -> str:
    """Three figures with a unit of a thousand."""
    power = next((power for power in range(4) if number < 999.5 * 1000**power), 4)
    return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def count_text(number: float) -> str:
    """Three figures with a word."""
    for power, word in ((12, " trillion"), (9, " billion"), (6, " million")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g}{word}"
    return f"{number:,.0f}"


def a_process() -> Section:
    """What one process receives, holds and computes."""
    columns = [_ours(num) for num in NUMS_PROCESSES] + [_theirs(num) for num in NUMS_PROCESSES]
    header = [f"ours, {num}" for num in NUMS_PROCESSES] + [f"ST, {num}" for num in NUMS_PROCESSES]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    return Section("One process", ("one process; of ST's the main one", *header), rows)


def a_node() -> Section:
    """What nodes exchange and hold."""
    header = ("layout", "network into a node, ours", "into ST's main node", "out of it", "texts on a node, ours", "ST")
    section = Section("One node", (*header, "merging on a node"))
    for num_processes, num_nodes in LAYOUTS:
        on_node = num_processes // num_nodes
        # In a ring each node is entered by one link, over which comes what its first process receives.
        received = _cost(num_processes).num_bytes if num_nodes > 1 else 0
        away = 1 - 1 / num_nodes
        num_texts = NUM_QUERIES + NUM_DOCUMENTS
        section.rows.append(
            (
                f"{num_processes} processes on {num_nodes} {'node' if num_nodes == 1 else 'nodes'}",
                bytes_text(received),
                bytes_text(away * num_texts * DIM * scale.FLOAT),
                bytes_text(away * num_texts * NUM_CHARACTERS),
                bytes_text(on_node * NUM_DOCUMENTS * (NUM_CHARACTERS + scale.OUR_DOCUMENT)),
                bytes_text(on_node * NUM_DOCUMENTS * (NUM_CHARACTERS + scale.ST_DOCUMENT)),
                bytes_text(on_node * scale.held_for_merge(NUM_QUERIES, K, num_processes)),
            )
        )
    return section


def other_tasks() -> Section:
    """What one process receives for tasks whose embeddings all processes get."""
    num = NUM_TEXTS
    works = {
        f"{num:,} pairs, four functions": lambda last: (2 * num, scale.pairwise(num, last, 4)),
        f"{num:,} texts mined, top_k 100": lambda last: (num, scale.mining(num, 100, 500_000, last)),
        f"{num:,} translations": lambda last: (2 * num, scale.translation(num, last)),
    }
    section = Section(
        "Other tasks",
        (
            "one process receives",
            *(f"{what}, {count}" for count in NUMS_PROCESSES for what in ("embeddings", "results")),
        ),
    )
    for name, work in works.items():
        cells = []
        for count in NUMS_PROCESSES:
            last = Shares(count - 1, count)
            num_texts, results = work(last)
            embeddings = scale.union(num_texts, DIM, last, scale.GPU_SHARE)
            cells += [bytes_text(embeddings.num_bytes), bytes_text(results.num_bytes)]
        section.rows.append((name, *cells))
    return section


def _cost(num_processes: int) -> scale.Cost:
    owned = [scale.most_owned(NUM_DOCUMENTS, num_processes)] * num_processes
    # The last process has no more queries than any other, so it receives most.
    last = Shares(num_processes - 1, num_processes)
    return scale.retrieval(NUM_QUERIES, owned, DIM, K, last, share=scale.GPU_SHARE)


def _ours(num_processes: int) -> dict[str, str]:
    last = Shares(num_processes - 1, num_processes)
    most = scale.most_owned(NUM_DOCUMENTS, num_processes)
    held = scale.held_for_search(NUM_QUERIES, DIM, K, scale.GPU_SHARE)
    return {
        "texts encoded": count_text(most + NUM_QUERIES / num_processes),
        "scores computed": count_text(NUM_QUERIES * most),
        "texts sent": "0 B",
        "embeddings received": bytes_text(scale.union(NUM_QUERIES, DIM, last, scale.GPU_SHARE).num_bytes),
        "hits received": bytes_text(scale.hits(NUM_QUERIES, K, last).num_bytes),
        "hits, if merged two by two": bytes_text(scale.hits_by_tree(NUM_QUERIES, K, num_processes)),
        "hits, if every process merged all": bytes_text(scale.hits_by_all(NUM_QUERIES, K, num_processes)),
        "meetings or messages": count_text(_cost(num_processes).num_meetings),
        "memory: documents as texts": bytes_text(NUM_DOCUMENTS * (NUM_CHARACTERS + scale.OUR_DOCUMENT)),
        "memory: the search, besides blocks of scores": bytes_text(held),
        "memory: merging at its peak": bytes_text(scale.held_for_merge(NUM_QUERIES, K, num_processes)),
    }


def _theirs(num_processes: int) -> dict[str, str]:
    served = scale.served_retrieval(NUM_QUERIES, NUM_DOCUMENTS, DIM, NUM_CHARACTERS, num_processes)
    held = scale.held_by_served(NUM_QUERIES, NUM_DOCUMENTS, DIM)
    return {
        "texts encoded": count_text((NUM_DOCUMENTS + NUM_QUERIES) / num_processes),
        "scores computed": count_text(NUM_QUERIES * NUM_DOCUMENTS),
        "texts sent": bytes_text(served.sent),
        "embeddings received": bytes_text(served.received),
        "hits received": "-",
        "hits, if merged two by two": "-",
        "hits, if every process merged all": "-",
        "meetings or messages": count_text(served.num_messages),
        "memory: documents as texts": bytes_text(NUM_DOCUMENTS * (NUM_CHARACTERS + scale.ST_DOCUMENT)),
        "memory: the search, besides blocks of scores": f"at least {bytes_text(held)}, blocks and all",
        "memory: merging at its peak": "-",
    }


def tables() -> str:
    """All tables in Markdown, between their marks."""
    sections = (a_process(), a_node(), other_tasks())
    bodies = ["\n".join(section.markdown().splitlines()[2:]).strip() for section in sections]
    return "\n\n".join([BEGIN, *bodies, END])


def renewed(text: str) -> str:
    """The page with the tables of today."""
    found, count = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: tables(), text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for the tables, not one.")
    return found


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
