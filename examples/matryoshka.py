"""Fine-tune a model whose embeddings can be cut short, and see what each size is worth, in about a minute on a CPU.

The data are docstrings of installed packages, as in search_api_docs.py, and the model is the MiniLM that a package
carries. One retrieval set is evaluated at four sizes while it trains: the texts are encoded once for all of them. The
best checkpoint is the one that does best with 64 of 384 dimensions. A table at the end tells what is left of it in
fewer dimensions and fewer bits.

    python examples/matryoshka.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_api_docs import Pair, load_model, small_split, to_dataset

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

SIZES = (384, 256, 128, 64)
BITS = ("float32", "int8", "binary")
NUM_TRAIN, NUM_DEV = 320, 150
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 3e-5


def retrieval(dev: Sequence[Pair], **settings: Any) -> InformationRetrievalEvaluator:
    """Each query looks for its own document, at all sizes."""
    from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

    return InformationRetrievalEvaluator(
        queries={pair.name: pair.query for pair in dev},
        corpus={pair.name: pair.document for pair in dev},
        relevant_docs={pair.name: {pair.name} for pair in dev},
        truncate_dims=SIZES,
        **settings,
    )


def show_sizes(model: SentenceTransformer, dev: Sequence[Pair]) -> None:
    """Print what is left of nDCG when vectors are cut short and stored in fewer bits, from one more encoding."""
    from rich.console import Console
    from rich.table import Table

    from st_eval_callbacks.evaluators import SequentialEvaluator

    found = SequentialEvaluator([retrieval(dev, precision=bits, name=bits) for bits in BITS])(model)
    table = Table("dimensions", *BITS, title="nDCG@10 of the model that was kept", title_justify="left")
    for size in SIZES:
        table.add_row(str(size), *(f"{found[f'{bits}_{size}_cosine_ndcg@10']:.4f}" for bits in BITS))
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fine-tune a model whose embeddings can be cut short.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/matryoshka"), help="(%(default)s)")
    options = parser.parse_args(argv)

    import torch
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    from st_eval_callbacks import EvaluatorCallback

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
        loss=MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), matryoshka_dims=list(SIZES)),
        callbacks=[
            EvaluatorCallback(
                retrieval(dev, name="docs"),
                every="0.5 epochs",
                primary="docs_64_cosine_ndcg@10",
                load_best_model_at_end=True,
            )
        ],
    )
    trainer.train()
    show_sizes(model, dev)
    final = options.output_dir / "final"
    model.save_pretrained(str(final))
    print(f"\nThe model, with its card: {final}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
