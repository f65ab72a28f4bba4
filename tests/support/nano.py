"""NanoBEIR in small: a local folder in the hub's layout."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path

from .parity import sentences


def make_nano_folder(parent: Path) -> Path:
    """Two tiny data sets, NanoMSMARCO and NanoNQ, with the subsets corpus, queries and qrels."""
    # A name of its own: `datasets` may serve a folder of the same name from an earlier run's cache.
    root = parent / f"nano-{uuid.uuid4().hex}"
    lines = ["---", "configs:"]
    for subset in ("corpus", "queries", "qrels"):
        (root / subset).mkdir(parents=True)
        lines += [f"- config_name: {subset}", "  data_files:"]
        for split in ("NanoMSMARCO", "NanoNQ"):
            lines += [f"  - split: {split}", f"    path: {subset}/{split}.jsonl"]
    (root / "README.md").write_text("\n".join([*lines, "---", ""]))
    for number, split in enumerate(("NanoMSMARCO", "NanoNQ")):
        chooser = random.Random(number)
        texts = list(dict.fromkeys(sentences(50, 50 + number)))
        rows: dict[str, list[dict[str, str]]] = {
            "queries": [{"_id": f"q{i}", "text": text} for i, text in enumerate(texts[:6])],
            "corpus": [{"_id": f"d{i}", "text": text} for i, text in enumerate(texts[6:])],
            "qrels": [
                {"query-id": f"q{i}", "corpus-id": f"d{chooser.randrange(len(texts) - 6)}"}
                for i in range(6)
                for _ in "ab"
            ],
        }
        for subset, found in rows.items():
            (root / subset / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in found) + "\n")
    return root
