"""What goes wrong on one of several processes, and what only some of them can do."""

from __future__ import annotations

import copy
import csv
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sentence_transformers.sentence_transformer import evaluation as st
from support import scenarios
from support.models import StubModel
from support.parity import sentences
from support.scenarios import cross_tasks, measured, models, pairs, retrieval, similarity, small_blocks, triplets

from st_eval_callbacks import distributed, evaluators
from st_eval_callbacks.encoding import session
from st_eval_callbacks.kernels import pairwise
from st_eval_callbacks.scorers import dense


def prepare() -> None:
    """Make the models."""
    scenarios.prepare()


class Boom(ValueError):
    """What fails on purpose."""


class Fragile(StubModel):
    """Fails on one process when it is to encode a certain text."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__({one: [float(place), 1.0] for place, one in enumerate("abcdefghij")})
        self.index, self.text = index, text

    def encode(self, inputs: Any, **kwargs: Any) -> Any:
        """Encode, or fail."""
        if distributed.process_index() == self.index:
            raise Boom(f"no {self.text}")
        return super().encode(inputs, **kwargs)

    encode_query = encode_document = encode


def _fails_on(index: int) -> Callable[..., float]:
    def evaluator(model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> float:
        if distributed.process_index() == index:
            raise Boom(f"process {index} has had enough")
        return 0.5

    return evaluator


def user_evaluator_fails_on_main(folder: Path) -> Any:
    """All run it: a stub cannot be served."""
    return measured(_fails_on(0), StubModel({"a": [1.0]}))


def user_evaluator_fails_elsewhere(folder: Path) -> Any:
    """The same on the last process."""
    return measured(_fails_on(dist.get_world_size() - 1), StubModel({"a": [1.0]}))


def served_evaluator_fails(folder: Path) -> Any:
    """The main process alone runs it, the others serve."""
    return measured(_fails_on(0), models()["plain"])


def encoding_fails(folder: Path) -> Any:
    """While the others go on to where embeddings are gathered."""
    return measured(evaluators.TripletEvaluator(["a", "b"], ["c", "d"], ["e", "f"]), Fragile(1, "luck"))


def scoring_fails(folder: Path) -> Any:
    """After encoding, in a kernel."""
    original = dense.pairwise_scores

    def broken(*args: Any, **kwargs: Any) -> Any:
        if distributed.process_index() == 1:
            raise Boom("no scores")
        return original(*args, **kwargs)

    dense.pairwise_scores = broken
    try:
        return measured(similarity(6), models()["plain"])
    finally:
        dense.pairwise_scores = pairwise.pairwise


def stream_fails(folder: Path) -> Any:
    """In the middle of a corpus."""
    corpus = {name: name for name in "bcdefghij"}
    evaluator = evaluators.InformationRetrievalEvaluator({"q": "a"}, corpus, {"q": {"c"}})
    with small_blocks(chunk=2, share=1):
        return measured(evaluator, Fragile(1, "stream"))


def writing_fails(folder: Path) -> Any:
    """The main process alone writes."""
    (folder / "taken").write_text("no folder", encoding="utf-8")
    return measured(triplets(4, "t"), models()["plain"], folder / "taken")


def goes_on(folder: Path) -> Any:
    """With `on_error="warn"` the failed evaluator is left out everywhere, and the others run."""
    each = {"bad": _fails_on(1), "good": triplets(5, "t")}
    model = StubModel(
        {one: [float(len(one)), 1.0, float(ord(one[0]))] for one in {*sentences(40), *_texts(each["good"])}}
    )
    return measured(each, model, on_error="warn")


def _texts(evaluator: Any) -> list[str]:
    return [*evaluator.anchors, *evaluator.positives, *evaluator.negatives]


def interrupted(folder: Path) -> Any:
    """An interrupt on one process ends all, also where errors are let pass."""

    def evaluator(model: Any, *args: Any) -> float:
        if distributed.process_index() == 1:
            raise KeyboardInterrupt
        return 1.0

    return measured(evaluator, StubModel({"a": [1.0]}), on_error="warn")


def out_of_step(folder: Path) -> Any:
    """An evaluator that claims to run alike everywhere, and does not."""

    class Lonely(evaluators.TripletEvaluator):
        def score(self, scorer: Any) -> dict[str, float]:
            if distributed.is_main_process():
                distributed.gather(torch.ones(1))
            else:
                distributed.pause()
            return {}

    return measured(Lonely(["a"], ["b"], ["c"]), StubModel({one: [1.0] for one in "abc"}))


def afterwards(folder: Path) -> Any:
    """After all of that the processes are still in step."""
    return measured(triplets(7, "t"), models()["plain"])


# -- evaluators of others ---------------------------------------------------------------------------------------------


def served(folder: Path) -> Any:
    """A peer's evaluator and a user's beside ours: one row in the CSV, each process encodes its share."""
    left, right = pairs(9, seed=20)
    peer = st.TripletEvaluator(left, right, sentences(9, seed=21), name="peer")
    model, num_texts = models()["plain"], [0]
    handle = model[0].register_forward_pre_hook(
        lambda module, args, kwargs: num_texts.__setitem__(0, num_texts[0] + len(args[0]["input_ids"])),
        with_kwargs=True,
    )

    def user(model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        with session() as one:
            rows = one.lookup(model, left).rows()
        return {"sum": float(rows.double().sum()), "shares": distributed.shares().num}

    name = folder / f"served{distributed.num_processes()}"
    try:
        values = measured({"peer": peer, "user": user, "ours": triplets(6, "ours")}, model, name)
    finally:
        handle.remove()
    rows = None
    if distributed.is_main_process():
        with (name / peer.csv_file).open(encoding="utf-8") as stream:
            rows = len(list(csv.reader(stream)))
    return {"values": values, "rows": rows, "texts": num_texts[0]}


def served_then_together(folder: Path) -> Any:
    """What the main process alone has encoded for a user's evaluator sets no process apart from the others."""
    model, both = models()["plain"], [triplets(9, "t"), similarity(9, "s")]
    texts = [*reversed(_texts(both[0])), *both[1].sentences2]

    def user(model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> float:
        with session() as one:
            return float(one.lookup(model, texts).rows().double().square().sum())

    found = measured({"user": user}, model)
    return {**found, **measured(both, model), **measured(retrieval(9, 30, "r"), model)}


def alone_then_together(folder: Path) -> Any:
    """A session that is open around an event, in which each process looks up texts in an order of its own."""
    model, both = models()["plain"], [triplets(9, "t"), similarity(9, "s")]
    texts = _texts(both[0])
    with session() as one:
        one.lookup(model, texts[:: -1 if distributed.is_main_process() else 1])
        found = measured(both, model)
        rows = one.lookup(model, texts[:3]).rows()
    return {**found, "square": float(rows.double().square().sum())}


def by_hand(folder: Path) -> Any:
    """Case C2: an evaluator called on every process, twice."""
    evaluator, name = triplets(5, "hand"), folder / f"hand{distributed.num_processes()}"
    values = [evaluator(models()["plain"], str(name), epoch, epoch) for epoch in (1, 2)]
    if dist.is_initialized():
        dist.barrier()
    with (name / evaluator.csv_file).open(encoding="utf-8") as stream:
        return {"values": values, "epochs": [row["epoch"] for row in csv.DictReader(stream)]}


def told_by_loggers(folder: Path) -> Any:
    """Messages of the package on each process, of an evaluation that logs and of one that fails and is let pass."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.levelname)

    logger, handler = logging.getLogger("st_eval_callbacks"), Keep()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        collapsed = StubModel({one: [1.0, 1.0] for one in "abcdef"})
        reranking = {"query": "a", "positive": ["b"], "negative": ["c", "d"]}
        measured(evaluators.RerankingEvaluator([reranking]), collapsed)
        measured({"bad": _fails_on(1)}, StubModel({"a": [1.0]}), on_error="warn")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return {"info": records.count("INFO"), "warnings": records.count("WARNING")}


# -- sharded models ---------------------------------------------------------------------------------------------------


def sharded(folder: Path) -> Any:
    """Case C5: each process holds a part of the weights; uneven, few and no texts of its own."""
    model = copy.deepcopy(models()["plain"])
    passes = [0]
    model[0].register_forward_pre_hook(lambda *args, **kwargs: passes.__setitem__(0, passes[0] + 1), with_kwargs=True)
    if dist.is_initialized():
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model[0].model.encoder.layer:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    values = {}
    with small_blocks():
        for num in (1, 7, 22):
            each = [
                triplets(num, f"t{num}"),
                similarity(max(num, 2), f"s{num}"),
                retrieval(num, 2 * num + 3, f"r{num}"),
            ]
            values.update(measured(each, model))
        corpora = [retrieval(3, 60, "long"), retrieval(3, 60, "again", truncate_dim=4)]
        values.update(measured(corpora, model))
    return {"values": values, "passes": passes[0]}


def sharded_cross_encoder(folder: Path) -> Any:
    """The same for pairs."""
    model = copy.deepcopy(models()["cross"])
    passes = [0]
    model[0].register_forward_pre_hook(lambda *args, **kwargs: passes.__setitem__(0, passes[0] + 1), with_kwargs=True)
    if dist.is_initialized():
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    values = {}
    with small_blocks():
        for num in (2, 7, 22):
            values.update({f"{num}_{key}": one for key, one in measured(cross_tasks(num), model).items()})
    return {"values": values, "passes": passes[0]}


def sharded_by_its_own_encode(folder: Path) -> Any:
    """A sharded model that is asked itself, as one with a subclass's `encode` is."""
    model = copy.deepcopy(models()["plain"])
    if dist.is_initialized():
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    original = model.encode
    model.encode = lambda *args, **kwargs: original(*args, **kwargs)
    with small_blocks():
        left, right = pairs(7, seed=30)
        peer = st.TripletEvaluator(left, right, sentences(7, seed=31), name="peer")
        return measured([triplets(7, "t"), retrieval(4, 30, "r"), peer], model)


def waits(folder: Path) -> Any:
    """One process is slow: the others wait for it, and all end together."""

    def slow(model: Any, *args: Any) -> float:
        time.sleep(1.0 if distributed.process_index() == 1 else 0.0)
        return 1.0

    return measured(slow, StubModel({"a": [1.0]}))
