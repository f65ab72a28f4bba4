"""Evaluate the checkpoints of a run on a test set that training never saw, beside what was measured in training.

The dev values come from the log that each checkpoint carries, so nothing is measured twice. A folder without
checkpoints is filled by a short training first. The data are docstrings of installed packages, as in
search_api_docs.py. About a minute on a CPU.

    python examples/evaluate_checkpoints.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from search_api_docs import Pair, load_model, retrieval, small_split, to_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from st_eval_callbacks import EvaluatorCallback, History, last_checkpoint

NUM_TRAIN, NUM_DEV = 320, 150
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 1e-4
EVERY = 5  # steps


def fine_tune(output_dir: Path, train: Sequence[Pair], dev: Sequence[Pair]) -> None:
    """Train, with a checkpoint at each evaluation."""
    model = load_model(None)
    model.max_seq_length = MAX_SEQ_LENGTH
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            save_strategy="steps",
            save_steps=EVERY,
            logging_steps=5,
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=to_dataset(train),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[EvaluatorCallback(retrieval("dev", dev, dev), every=EVERY)],
    ).train()


def show(values: dict[str, tuple[float, float]]) -> None:
    """Print a row a checkpoint, and which is best by each column."""
    table = Table("checkpoint", "dev ndcg@10", "test ndcg@10", title="Checkpoints", title_justify="left")
    for name, (dev_value, test_value) in values.items():
        table.add_row(name, f"{dev_value:.4f}", f"{test_value:.4f}")
    Console().print(table)
    best_by_dev = max(values, key=lambda name: values[name][0])
    best_by_test = max(values, key=lambda name: values[name][1])
    # Only the first may be chosen: a checkpoint picked by its test value has seen the test set.
    print(f"Best by dev: {best_by_dev}, worth {values[best_by_dev][1]:.4f} on the test set")
    print(f"Best by test: {best_by_test}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Evaluate checkpoints on a test set.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/evaluate_checkpoints"), help="(%(default)s)")
    options = parser.parse_args(argv)

    train, held_out = small_split(NUM_TRAIN, 2 * NUM_DEV)
    dev, test = held_out[::2], held_out[1::2]
    if last_checkpoint(options.output_dir) is None:
        fine_tune(options.output_dir, train, dev)

    dev_values = dict(History.read(options.output_dir).values("dev_cosine_ndcg@10"))
    evaluator = retrieval("test", test, test)
    values = {}
    for step, dev_value in dev_values.items():
        checkpoint = options.output_dir / f"checkpoint-{step}"
        if checkpoint.is_dir():
            model = SentenceTransformer(str(checkpoint))
            values[checkpoint.name] = (dev_value, evaluator(model)["test_cosine_ndcg@10"])
    if not values:
        parser.error(f"the checkpoints in {options.output_dir} are not those of this example")
    show(values)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
