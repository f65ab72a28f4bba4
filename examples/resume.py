"""Break a training off in the middle, go on with it, and compare with one that was never stopped.

One line serves the first start and every later one:

    trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))

The data are docstrings of installed packages, as in search_api_docs.py. The results table has one row a step, and its
values and its best are those of the uninterrupted run. About a minute on a CPU.

    python examples/resume.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from search_api_docs import Pair, load_model, retrieval, small_split, to_dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from st_eval_callbacks import EvaluatorCallback, last_checkpoint

NUM_TRAIN, NUM_DEV = 192, 100
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 5e-5
EVALUATE_EVERY, SAVE_EVERY, STOP_AT = 2, 3, 8  # steps: what comes after the last save is done again


class BreakOff(TrainerCallback):
    """Does at a step what Ctrl-C would do."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STOP_AT:
            raise KeyboardInterrupt


def fine_tune(output_dir: Path, train: Sequence[Pair], dev: Sequence[Pair], *others: TrainerCallback) -> None:
    """Train from the beginning, or from the newest checkpoint where there is one."""
    model = load_model(None)
    model.max_seq_length = MAX_SEQ_LENGTH
    args = SentenceTransformerTrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        save_strategy="steps",
        save_steps=SAVE_EVERY,
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
        callbacks=[
            EvaluatorCallback(retrieval("docs", dev, dev), every=EVALUATE_EVERY, load_best_model_at_end=True),
            *others,
        ],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))
    model.save_pretrained(str(output_dir / "final"))


def rows(output_dir: Path) -> pd.DataFrame:
    """The results without the seconds, which no two runs share."""
    results = pd.read_csv(output_dir / "evaluation_results.csv")
    return results[["epoch", "steps", "is_best", "docs_cosine_ndcg@10"]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Break a training off, and go on with it.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/resume"), help="(%(default)s)")
    options = parser.parse_args(argv)
    whole, broken = options.output_dir / "whole", options.output_dir / "broken_off"

    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    fine_tune(whole, train, dev)
    try:
        fine_tune(broken, train, dev, BreakOff())
    except KeyboardInterrupt:
        print(f"\nBroken off after step {STOP_AT}; going on from {last_checkpoint(broken)}", flush=True)
    fine_tune(broken, train, dev)

    for name, folder in {"Never stopped": whole, "Broken off, then gone on with": broken}.items():
        print(f"\n{name}:\n{rows(folder).to_string(index=False)}")
    is_same = rows(whole).equals(rows(broken))
    print(f"\nOne row a step, the same values and the same best: {'yes' if is_same else 'no'}")
    return 0 if is_same else 1


if __name__ == "__main__":
    raise SystemExit(main())
