"""An evaluator of your own decides which model is kept, with a plain function beside it.

The class measures at which rank the document of a query stands on average; 1 is the best there is, lower is better.
The function measures how far apart different documents are to the model. The data are docstrings of installed
packages, as in search_api_docs.py. About a minute on a CPU. More in docs/own_evaluator.md.

    python examples/custom_evaluator.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from search_api_docs import Pair, load_model, small_split, to_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from st_eval_callbacks import EvaluatorCallback
from st_eval_callbacks.evaluators import Evaluator
from st_eval_callbacks.scorers import Scorer, Wish

NUM_TRAIN, NUM_DEV, NUM_SPREAD = 320, 150, 50
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 5e-5


class MeanRankEvaluator(Evaluator):
    """Mean rank of each query's own document, from 1 to the number of documents; lower is better."""

    def __init__(self, queries: Sequence[str], documents: Sequence[str], name: str = "", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.greater_is_better = False
        self.queries, self.documents = queries, documents
        self.csv_file = f"mean_rank_evaluation_{name}_results.csv"

    def metric_keys(self, scorer: Scorer) -> list[str]:
        return ["mean_rank", "worst_rank"]  # the first one decides

    def wants(self, scorer: Scorer) -> list[Wish]:
        return [
            Wish(self.queries, self.options(task="query")),
            Wish(self.documents, self.options(task="document"), streams=True),
        ]

    def score(self, scorer: Scorer) -> dict[str, float]:
        found = scorer.search(
            self.queries,
            self.documents,
            len(self.documents),
            {"cosine": "cosine"},
            query_options=self.options(task="query"),
            corpus_options=self.options(task="document"),
        )
        positions = found["cosine"].hits.positions  # (queries, documents), best first
        own = torch.arange(len(self.queries), device=positions.device)
        is_own = positions == own[:, None]
        ranks = 1.0 + is_own.int().argmax(dim=1)
        ranks[~is_own.any(dim=1)] = math.nan  # scores that are NaN find nothing
        return {"mean_rank": ranks.mean().item(), "worst_rank": ranks.max().item()}


def build_callback(dev: Sequence[Pair]) -> EvaluatorCallback:
    documents = [pair.document for pair in dev[:NUM_SPREAD]]

    def spread(
        model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        embeddings = model.encode_document(documents, convert_to_tensor=True)
        row, column = torch.triu_indices(len(documents), len(documents), offset=1, device=embeddings.device)
        return {"spread": 1 - model.similarity(embeddings, embeddings)[row, column].mean().item()}

    mean_rank = MeanRankEvaluator([pair.query for pair in dev], [pair.document for pair in dev], name="docs")
    # The first evaluator decides, by its first metric, unless `primary` says otherwise.
    return EvaluatorCallback([mean_rank, spread], every="0.25 epochs", load_best_model_at_end=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Let an evaluator of your own decide which model is kept.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/custom_evaluator"), help="(%(default)s)")
    options = parser.parse_args(argv)

    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    model = load_model(None)
    model.max_seq_length = MAX_SEQ_LENGTH
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(options.output_dir),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            eval_on_start=True,
            save_strategy="epoch",
            save_total_limit=2,
            logging_steps=5,
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=to_dataset(train),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[build_callback(dev)],
    )
    trainer.train()
    final = options.output_dir / "final"
    model.save_pretrained(str(final))
    print(f"\nThe model, with its card: {final}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
