"""Stop when the metric that decides has not improved for a while, and keep the best checkpoint.

`early_stopping_patience` counts evaluations of that metric; no `eval_strategy` and no second callback are needed. The
data are docstrings of installed packages, as in search_api_docs.py. About a minute on a CPU.

    python examples/early_stopping.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from search_api_docs import load_model, retrieval, small_split, to_dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from st_eval_callbacks import EvaluatorCallback

NUM_TRAIN, NUM_DEV = 96, 150
MAX_SEQ_LENGTH, BATCH_SIZE = 40, 16
# So few texts, seen so often at so high a rate, are soon known by heart: the model gains what there is to gain, then
# forgets what it knew of others. That is why this run stops early; with a seed it does so at the same step each time.
EPOCHS, LEARNING_RATE, SEED = 10, 3e-4, 0
PATIENCE = 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Stop when the model no longer gets better.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/early_stopping"), help="(%(default)s)")
    options = parser.parse_args(argv)

    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    model = load_model(None)
    model.max_seq_length = MAX_SEQ_LENGTH
    callback = EvaluatorCallback(
        retrieval("docs", dev, dev),
        every="0.5 epochs",
        primary="docs_cosine_ndcg@10",
        early_stopping_patience=PATIENCE,
        load_best_model_at_end=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(options.output_dir),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            seed=SEED,
            eval_on_start=True,
            save_strategy="epoch",
            save_total_limit=2,
            logging_steps=5,
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=to_dataset(train),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[callback],
    )
    trainer.train()

    state = trainer.state
    print(f"\nStopped at step {state.global_step} of {state.max_steps}")
    print(f"The best, which was loaded: {state.best_model_checkpoint} ({state.best_metric:.4f})")
    final = options.output_dir / "final"
    model.save_pretrained(str(final))
    print(f"The model, with its card: {final}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
