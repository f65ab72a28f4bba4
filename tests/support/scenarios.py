"""What several processes evaluate together; each function is run by all of them, and by one alone for comparison."""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import InputExample
from sentence_transformers.base.evaluation import SequentialEvaluator
from sentence_transformers.sentence_transformer import evaluation as st
from support.models import (
    tiny_cross_encoder,
    tiny_model,
    tiny_multi_vector_model,
    tiny_router_model,
    tiny_sparse_model,
    tiny_static_model,
)
from support.nano import make_nano_folder
from support.parity import sentences
from torch.utils.data import DataLoader

from st_eval_callbacks import distributed, evaluators
from st_eval_callbacks.encoding import Session, encoder, session
from st_eval_callbacks.evaluation import EvalSettings, evaluate
from st_eval_callbacks.evaluators.together import inner_evaluators
from st_eval_callbacks.tasks import build_tasks
from st_eval_callbacks.writers.per_query import item_files, read_items

SESSION = sys.modules[Session.__module__]
FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]


@functools.cache
def models() -> dict[str, Any]:
    """All models that scenarios use."""
    return {
        "plain": tiny_model(),
        "teacher": tiny_model(seed=5),
        "static": tiny_static_model(),
        "router": tiny_router_model(),
        "truncated": tiny_model(truncate_dim=5),
        "cross": tiny_cross_encoder(),
        "classes": tiny_cross_encoder(num_labels=3),
        "apart": tiny_model(seed=7),
        "multi_vector": tiny_multi_vector_model(),
        "sparse": tiny_sparse_model(),
        "sparse_teacher": tiny_sparse_model(seed=5),
    }


def prepare() -> None:
    """Make the models."""
    models()


def measured(
    each: Any, model: Any, folder: Path | None = None, *, keep_per_query: bool = False, **settings: Any
) -> dict[str, float]:
    """The metrics of one event, and how much was encoded here."""
    outcome = evaluate(
        build_tasks(each, None, keep_per_query=keep_per_query),
        model,
        output_path=None if folder is None or not distributed.is_main_process() else str(folder),
        epoch=1.0,
        step=2,
        settings=EvalSettings(),
        **settings,
    )
    return {key: float(value) for key, value in outcome.merged.items()}


@contextmanager
def small_blocks(chunk: int = 8, share: int = 3) -> Any:
    """Corpora stream in chunks, and shares are encoded in pieces, of a few texts."""
    before = SESSION._STREAM_CHUNK, encoder._CPU_SHARE
    SESSION._STREAM_CHUNK, encoder._CPU_SHARE = chunk, share
    try:
        yield
    finally:
        SESSION._STREAM_CHUNK, encoder._CPU_SHARE = before


def pairs(num: int, seed: int = 0) -> tuple[list[str], list[str]]:
    texts = sentences(2 * num, seed=seed)
    return texts[:num], texts[num:]


def similarity(num: int, name: str = "") -> Any:
    left, right = pairs(num, seed=1)
    scores = random.Random(1).choices(range(6), k=num)
    return evaluators.EmbeddingSimilarityEvaluator(left, right, scores, similarity_fn_names=FUNCTIONS, name=name)


def binary(num: int, name: str = "") -> Any:
    left, right = pairs(num, seed=2)
    labels = [place % 2 for place in range(num)]
    return evaluators.BinaryClassificationEvaluator(left, right, labels, similarity_fn_names=FUNCTIONS, name=name)


def triplets(num: int, name: str = "") -> Any:
    anchors, positives = pairs(num, seed=3)
    return evaluators.TripletEvaluator(
        anchors, positives, sentences(num, seed=4), similarity_fn_names=FUNCTIONS, name=name
    )


def retrieval(num_queries: int, num_documents: int, name: str = "", **settings: Any) -> Any:
    queries = {f"q{place}": text for place, text in enumerate(sentences(num_queries, seed=5))}
    corpus = {f"d{place}": text for place, text in enumerate(sentences(num_documents, seed=6))}
    relevant = {
        query: {f"d{place * 7 % num_documents}", f"d{place % num_documents}"} for place, query in enumerate(queries)
    }
    return evaluators.InformationRetrievalEvaluator(queries, corpus, relevant, name=name, **settings)


def reranking(num: int, name: str = "") -> Any:
    samples = [
        {
            "query": query,
            "positive": sentences(1 + place % 3, seed=place),
            "negative": sentences(2 + place % 4, seed=99 + place),
        }
        for place, query in enumerate(sentences(num, seed=7))
    ]
    return evaluators.RerankingEvaluator(samples, name=name)


def mining(num: int, name: str = "", **settings: Any) -> Any:
    # No text twice: which of the pairs of equal texts come first is a matter of the last bit of their embeddings.
    chosen = list(dict.fromkeys(sentences(2 * num, seed=8)))[:num]
    texts = {f"t{place}": text for place, text in enumerate(chosen)}
    duplicates = [(f"t{place}", f"t{(place + 1) % num}") for place in range(0, num, 2)]
    return evaluators.ParaphraseMiningEvaluator(texts, duplicates_list=duplicates, name=name, **settings)


def translation(num: int, name: str = "") -> Any:
    left, right = pairs(num, seed=9)
    return evaluators.TranslationEvaluator(left, right, name=name)


def mse(num: int, name: str = "") -> Any:
    left, right = pairs(num, seed=10)
    return evaluators.MSEEvaluator(left, right, teacher_model=models()["teacher"], name=name)


def every(num: int) -> list[Any]:
    """One of each task, all of the same size."""
    made = [similarity, binary, triplets, reranking, mining, translation, mse]
    return [make(num, make.__name__) for make in made] + [retrieval(num, 2 * num + 1, "retrieval")]


# -- values -----------------------------------------------------------------------------------------------------------


def of_size(num: int) -> Callable[[Path], Any]:
    """All tasks on inputs of one size."""

    def run(folder: Path) -> Any:
        with small_blocks():
            return measured(every(num), models()["plain"])

    return run


size_2, size_3, size_7, size_22, size_40 = (of_size(num) for num in (2, 3, 7, 22, 40))


def one_of_each(folder: Path) -> Any:
    """A single pair, triplet, query, sample: fewer than there are processes."""
    tasks = [binary(1, "binary"), triplets(1, "triplets"), reranking(1, "reranking"), mse(1, "mse")]
    return measured([*tasks, translation(1, "translation"), retrieval(1, 1, "retrieval")], models()["plain"])


def triplets_7_1_22(folder: Path) -> Any:
    """Case C4."""
    return measured([triplets(num, f"t{num}") for num in (7, 1, 22)], models()["plain"])


def kinds_of_model(folder: Path) -> Any:
    """Static and routed models, truncated ones, half precision."""
    found: dict[str, float] = {}
    with small_blocks():
        for name in ("static", "router", "truncated"):
            for key, value in measured([retrieval(5, 23, "ir"), triplets(5, "triplets")], models()[name]).items():
                found[f"{name}_{key}"] = value
    return found


def sparse(folder: Path) -> Any:
    """Every task of sparse models, on few texts and more, with corpora in blocks and a function of the user."""

    def halves(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.mm(left, right.t()).to_dense() / 2

    found: dict[str, float] = {}
    for num in (1, 2, 7, 22):
        (left, right), others = pairs(num, seed=14), sentences(num, seed=15)
        labels = [place % 2 for place in range(num)]
        names: dict[str, Any] = {"similarity_fn_names": FUNCTIONS}
        one = retrieval(num, 3 * num + 1)
        # Distinct texts: equal ones in other batches differ in their last digits, and would not tie.
        corpus = {doc: text for text, doc in dict(zip(one.corpus[::-1], one.corpus_ids[::-1], strict=True)).items()}
        data = dict(zip(one.queries_ids, one.queries, strict=True)), corpus
        each = [
            evaluators.SparseBinaryClassificationEvaluator(left, right, labels, name="binary", **names),
            evaluators.SparseEmbeddingSimilarityEvaluator(left, right, labels, name="sts", **names),
            evaluators.SparseTripletEvaluator(left, right, others, name="triplets", **names),
            evaluators.SparseRerankingEvaluator(reranking(num).samples, name="reranking"),
            evaluators.SparseTranslationEvaluator(left, right, name="translation"),
            evaluators.SparseMSEEvaluator(left, right, models()["sparse_teacher"], name="mse"),
            evaluators.SparseInformationRetrievalEvaluator(*data, one.relevant_docs, 4, name="ir"),
            evaluators.SparseInformationRetrievalEvaluator(
                *data,
                one.relevant_docs,
                name="functions",
                score_functions={"mine": halves, **dict(zip(FUNCTIONS, FUNCTIONS, strict=True))},
                max_active_dims=9,
                ties="expected",
            ),
        ]
        with small_blocks():
            found.update({f"{num}_{key}": value for key, value in measured(each, models()["sparse"]).items()})
    return found


def long_corpora(folder: Path) -> Any:
    """Corpora that stream, one by itself and two that overlap, with ties counted and hits watched."""
    each = [
        retrieval(6, 50, "one", corpus_chunk_size=4),
        retrieval(9, 41, "two", corpus_chunk_size=100, ties="expected"),
        retrieval(4, 30, "three", truncate_dim=6, ndcg_at_k=[50], map_at_k=[1]),
    ]
    found = {}
    with small_blocks():
        for name, chosen in {"lone": each[:1], "tied": each[1:2], "all": each}.items():
            found.update({f"{name}_{key}": value for key, value in measured(chosen, models()["plain"]).items()})
    return found


def sizes_and_bits(folder: Path) -> Any:
    """Several sizes and precisions of corpora that stream, unjudged documents left out, and samples."""
    each = [
        retrieval(6, 50, "sizes", corpus_chunk_size=4, truncate_dims=[12, 5]),
        retrieval(6, 50, "int8", precision="int8", truncate_dims=[16, 7]),
        retrieval(9, 41, "bits", precision="binary", score_functions={"cosine": "cosine", "l1": "manhattan"}),
        retrieval(4, 30, "judged", ignore_unjudged=True, measures=["bpref", "judged@5"]),
        retrieval(9, 41, "few", max_queries=4, max_corpus=20, seed=3),
        evaluators.TripletEvaluator(sentences(7, 1), sentences(7, 2), sentences(7, 3), name="t", truncate_dims=[9, 4]),
    ]
    found = {}
    with small_blocks():
        for name, chosen in {"lone": each[:1], "all": each}.items():
            found.update({f"{name}_{key}": value for key, value in measured(chosen, models()["plain"]).items()})
    return found


def streams_then_pairs(folder: Path) -> Any:
    """Texts that processes kept of their parts of corpora are asked for by all in a later event."""
    model, streamed = models()["apart"], [retrieval(3, 40, name) for name in ("one", "two")]
    texts = streamed[0].corpus
    with small_blocks():
        first = measured(streamed, model)
        later = evaluators.TripletEvaluator(texts[:13], texts[13:26], texts[26:39], margin=0.01, name="later")
        scores = [float(place % 7) for place in range(20)]
        similar = evaluators.EmbeddingSimilarityEvaluator(texts[:20], texts[20:], scores, name="similar")
        return {**first, **measured([later, similar], model)}


def predictions(folder: Path) -> Any:
    """The hits that are written, as the main process writes them."""
    evaluator = retrieval(5, 37, "written", write_predictions=True)
    name = f"{distributed.num_processes()}"
    with small_blocks():
        measured([evaluator], models()["plain"], folder / name)
    if not distributed.is_main_process():
        return None
    return sorted(path.name for path in (folder / name).iterdir())


def items(folder: Path) -> Any:
    """Values of single items."""
    each = [*every(7), *_label_accuracies(), _two_datasets(folder)]
    with small_blocks():
        measured(each, models()["plain"], keep_per_query=True)
        cross = cross_tasks(7)
        measured(cross, models()["cross"], keep_per_query=True)
    keepers = [one for given in (*each, *cross) for one in inner_evaluators(given) if one.per_query is not None]
    return {one.name: {**one.per_query.values, **one.per_query.raw} for one in keepers}


def items_written(folder: Path) -> Any:
    """Files of values of single items, as the main process writes them."""
    place = folder / f"items_{distributed.num_processes()}"
    measured(every(5), models()["plain"], place, keep_per_query=True)
    if not distributed.is_main_process():
        return None
    return {name: read_items(files[2]).values for name, files in item_files(place).items()}


def mining_settings(folder: Path) -> Any:
    """Few pairs, few neighbours, many, and blocks smaller than the corpus."""
    module = sys.modules["st_eval_callbacks.kernels.mining"]
    before, module._BLOCK = module._BLOCK, 8
    try:
        each = [
            mining(60, f"m{place}", max_pairs=pairs, top_k=top_k)
            for place, (pairs, top_k) in enumerate([(5, 3), (40, 2), (1000, 100), (17, 50)])
        ]
        return measured(each, models()["plain"])
    finally:
        module._BLOCK = before


def custom_functions(folder: Path) -> Any:
    """Score functions of the user, over a corpus in blocks and over samples."""

    def doubled(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return 2 * left @ right.T

    each = [
        retrieval(5, 33, "ir", score_functions={"doubled": doubled}),
        evaluators.RerankingEvaluator(reranking(6).samples, similarity_fct=doubled, name="re"),
    ]
    with small_blocks():
        return measured(each, models()["plain"])


def label_accuracy(folder: Path) -> Any:
    """Batches in order are dealt out, shuffled ones are not."""
    return measured(_label_accuracies(), models()["plain"])


def _label_accuracies() -> list[Any]:
    model = models()["plain"]
    texts, labels = sentences(11, seed=11), [place % 3 for place in range(11)]
    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 3))).float()

    def softmax_model(features: Any, labels: Any = None) -> Any:
        return None, model(features[0])["sentence_embedding"] @ weights

    data = [InputExample(texts=[text], label=label) for text, label in zip(texts, labels, strict=True)]
    loaders = [DataLoader(data, batch_size=2, shuffle=shuffle) for shuffle in (False, True)]  # type: ignore[arg-type]
    collated = [model.smart_batching_collate(data[start : start + 3]) for start in range(0, len(data), 3)]
    return [
        evaluators.LabelAccuracyEvaluator(loader, name=f"l{place}", softmax_model=softmax_model)
        for place, loader in enumerate([*loaders, collated])
    ]


def nano_beir(folder: Path) -> Any:
    """Data sets read from a folder by each process."""
    evaluator = _two_datasets(folder)
    with small_blocks():
        return measured(evaluator, models()["plain"])


def _two_datasets(folder: Path) -> Any:
    root = distributed_value(lambda: str(make_nano_folder(folder)))
    return evaluators.NanoBEIREvaluator(["msmarco", "nq"], dataset_id=root)


def distributed_value(make: Callable[[], Any]) -> Any:
    """What the main process makes, on all."""
    with distributed.guarded():
        return distributed.from_main(make() if distributed.is_main_process() else None)


def mse_from_data_frame(folder: Path) -> Any:
    """A table of translations, and the student's texts of several pairs."""
    rows = [{"en": one, "de": other} for one, other in zip(*pairs(9, seed=14), strict=True)]
    teacher, languages = models()["teacher"], [("en", "de"), ("de", "en")]
    return measured(evaluators.MSEEvaluatorFromDataFrame(rows, teacher, languages, name="mse"), models()["plain"])


def multi_vector(folder: Path) -> Any:
    """All tasks of multi-vector models, over corpora in blocks, fewer inputs than processes, and ties."""
    found: dict[str, float] = {}
    for num in (1, 7, 23):
        anchors, positives = pairs(num, seed=14)
        data = retrieval(num, 2 * num + 1)
        given = [
            dict(zip(data.queries_ids, data.queries, strict=True)),
            dict(zip(data.corpus_ids, data.corpus, strict=True)),
        ]
        documents = [sentences(4, seed=place) for place in range(num)]
        scores = [[float(place * way % 5) for way in range(4)] for place in range(1, num + 1)]
        each = [
            evaluators.MultiVectorInformationRetrievalEvaluator(
                *given, data.relevant_docs, name=f"ir_{ties}", ties=ties, corpus_chunk_size=4
            )
            for ties in ("id", "expected")
        ]
        each += [
            evaluators.MultiVectorTripletEvaluator(
                anchors, positives, sentences(num, seed=15), similarity_fn_names=["maxsim", "meanmaxsim"], name="t"
            ),
            evaluators.MultiVectorRerankingEvaluator(reranking(num).samples, name="re"),
            evaluators.MultiVectorDistillationEvaluator(anchors, documents, scores, name="kd"),
        ]
        with small_blocks():
            values = measured(each, models()["multi_vector"])
        found.update({f"{num}_{key}": value for key, value in values.items()})
    return found


def nested(folder: Path) -> Any:
    """A sequence with a peer's evaluator inside, and a peer's sequence of ours."""
    left, right = pairs(5, seed=12)
    peer = st.TripletEvaluator(left, right, sentences(5, seed=13), name="peer")
    ours = evaluators.SequentialEvaluator([triplets(5, "inner"), peer])
    return measured(
        {"ours": ours, "theirs": SequentialEvaluator([binary(6, "b"), similarity(6, "s")])}, models()["plain"]
    )


def cross_tasks(num: int) -> list[Any]:
    """One of each task for a model that scores pairs, over pairs that overlap."""
    left, right = pairs(num, seed=20)
    both = list(zip(left, right, strict=True))
    samples = [
        {"query": one, "positive": [other, *right[:1]], "documents": [*sentences(4, seed=place), other]}
        for place, (one, other) in enumerate(both)
    ]
    return [
        evaluators.CrossEncoderCorrelationEvaluator(both, range(num), name="correlation", show_progress_bar=False),
        evaluators.CrossEncoderClassificationEvaluator(both, [place % 2 for place in range(num)], name="binary"),
        evaluators.CrossEncoderRerankingEvaluator(samples, name="reranking"),
        evaluators.CrossEncoderRerankingEvaluator(samples, name="missed", always_rerank_positives=False, at_k=2),
    ]


def cross_encoders(folder: Path) -> Any:
    """Pairs of few and many, one label and several, by the fast path and by a predict of its own."""
    found: dict[str, float] = {}
    own = copy.copy(models()["cross"])
    own.predict = lambda *args, **kwargs: type(own).predict(own, *args, **kwargs)
    with small_blocks():
        for num in (2, 3, 7, 22):
            for name, model in {"fast": models()["cross"], "own": own}.items():
                found.update({f"{name}{num}_{key}": one for key, one in measured(cross_tasks(num), model).items()})
        classes = evaluators.CrossEncoderClassificationEvaluator(
            list(zip(*pairs(13, seed=21), strict=True)), [place % 3 for place in range(13)], name="classes"
        )
        found.update(measured(classes, models()["classes"]))
    return found


# -- counts -----------------------------------------------------------------------------------------------------------


def encoded(folder: Path) -> Any:
    """How many texts this process encodes when several evaluators want overlapping ones, and how many are distinct."""
    model, each = models()["plain"], [retrieval(9, 80, "a"), retrieval(9, 80, "b", truncate_dim=4), triplets(30, "c")]
    texts = {*each[0].queries, *each[0].corpus, *each[2].anchors, *each[2].positives, *each[2].negatives}
    return _counted(each, model, len(texts))


def predicted(folder: Path) -> Any:
    """The same for pairs."""
    each = cross_tasks(30)
    return _counted(each, models()["cross"], len({pair for one in each for pair in one._pairs}))


def _counted(each: list[Any], model: Any, num_distinct: int) -> dict[str, int]:
    counts = []
    original = Session.__init__

    def kept(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        counts.append(self)

    Session.__init__ = kept  # type: ignore[method-assign]
    try:
        with small_blocks(chunk=16):
            measured(each, model)
    finally:
        Session.__init__ = original  # type: ignore[method-assign]
    return {"encoded": sum(one.num_encoded for one in counts), "distinct": num_distinct}


def open_session(folder: Path) -> Any:
    """Inside a session that is open, what one evaluator encoded the next finds."""
    model = models()["plain"]
    with session() as one:
        first = measured([triplets(9, "t")], model)
        num_first = one.num_encoded
        second = measured([triplets(9, "t")], model)
    assert first == second
    return {"again": one.num_encoded - num_first}
