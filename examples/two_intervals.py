"""Two evaluators at two intervals: a cheap one every few steps, full retrieval every quarter of an epoch.

The cheap one tells soon whether training goes wrong, the full one decides which checkpoint is kept. The data are
docstrings of installed packages, as in search_api_docs.py. Similarity is judged on summaries beside their own
document (score 1) and beside another's (score 0). About a minute on a CPU.

    python examples/two_intervals.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from search_api_docs import Pair, load_model, small_split, to_dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator

NUM_TRAIN, NUM_DEV, NUM_JUDGED = 320, 150, 30
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 5e-5


def build_callback(dev: Sequence[Pair]) -> EvaluatorCallback:
    judged = dev[:NUM_JUDGED]
    others = [*judged[1:], judged[0]]
    similarity = EmbeddingSimilarityEvaluator(
        sentences1=[pair.query for pair in [*judged, *judged]],
        sentences2=[pair.document for pair in [*judged, *others]],
        scores=[1.0] * len(judged) + [0.0] * len(judged),
        name="sts",
    )
    retrieval = InformationRetrievalEvaluator(
        queries={pair.name: pair.query for pair in dev},
        corpus={pair.name: pair.document for pair in dev},
        relevant_docs={pair.name: {pair.name} for pair in dev},
        name="docs",
    )
    return EvaluatorCallback(
        [
            Scheduled(similarity, every="2 steps", at_start=True),
            Scheduled(retrieval, every="0.25 epochs", at_start=True),
        ],
        primary="docs_cosine_ndcg@10",
        load_best_model_at_end=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run two evaluators at two intervals.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/two_intervals"), help="(%(default)s)")
    options = parser.parse_args(argv)

    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    model = load_model(None)
    model.max_seq_length = MAX_SEQ_LENGTH
    args = SentenceTransformerTrainingArguments(
        output_dir=str(options.output_dir),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        eval_strategy="no",  # the intervals above decide, the Trainer has nothing of its own to evaluate
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=5,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=args,
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
