"""Train and evaluate in several processes: each encodes its share of the texts, all end with the same values.

Nothing in the script is there because of that but `use_cpu`, for machines without an accelerator, and what counts and
compares. The data are docstrings of installed packages, as in search_api_docs.py. Half a minute on two CPU cores.

    torchrun --nproc_per_node 2 examples/many_processes.py
    python examples/many_processes.py       # alone: one process does it all

Alone it trains otherwise, for in-batch negatives are those of a process's own batch, so those values are others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from search_api_docs import load_model, retrieval, small_split, to_dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from st_eval_callbacks import EvaluatorCallback

NUM_TRAIN, NUM_DEV = 320, 150
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 5e-5
METRIC = "docs_cosine_ndcg@10"
ON_CPU = not torch.accelerator.is_available()


class TextCounter:
    """Counts what a model encodes for evaluations, and the few texts that sentence-transformers does for its card."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.num_texts = 0
        model.register_forward_pre_hook(self.count)

    def count(self, model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if not model.training:
            self.num_texts += len(inputs[0]["input_ids"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train and evaluate in several processes.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/many_processes"), help="(%(default)s)")
    options = parser.parse_args(argv)

    processes = PartialState(cpu=ON_CPU)
    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    model = load_model(None)
    model.max_seq_length = MAX_SEQ_LENGTH
    evaluator = retrieval("docs", dev, dev)
    callback = EvaluatorCallback(evaluator, every="0.5 epochs", primary=METRIC, load_best_model_at_end=True)
    args = SentenceTransformerTrainingArguments(
        output_dir=str(options.output_dir),
        num_train_epochs=1,
        per_device_train_batch_size=max(BATCH_SIZE // processes.num_processes, 1),
        learning_rate=LEARNING_RATE,
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=5,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=ON_CPU,  # without it, processes on a CPU would each train alone
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=to_dataset(train),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[callback],
    )
    counter = TextCounter(model)
    trainer.train()

    # What each process has: a list with one entry a process, the same everywhere.
    counts = gather_object([counter.num_texts])
    bests = gather_object([trainer.state.best_metric])
    # Called by hand, an evaluator runs in its process alone, on all texts: here on the best model, which is loaded.
    by_hand = gather_object([evaluator(model)[METRIC]])
    for index, (count, best, value) in enumerate(zip(counts, bests, by_hand, strict=True)):
        processes.print(f"process {index} encoded {count} texts; best {METRIC} {best:.6f}, by hand {value:.6f}")
    agree = max(bests + by_hand) - min(bests + by_hand) < 1e-6
    processes.print(f"All values agree: {'yes' if agree else 'no'}")
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
