"""What several evaluators want is encoded in one go."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bundled import BUILDERS, A, B
from support.loop import Fake, make_trainer
from support.models import StubModel, tiny_model
from support.parity import sentences

from st_eval_callbacks import EvaluatorCallback, evaluators
from st_eval_callbacks.encoding import Session, session
from st_eval_callbacks.evaluators.together import encode_together

SILENT = {"LabelAccuracyEvaluator"}  # its texts come from a data loader, through a model of its own


@pytest.mark.parametrize("name", [name for name in BUILDERS if name not in SILENT])
def test_an_evaluator_says_all_that_it_will_encode(name: str) -> None:
    model = tiny_model()
    evaluator = BUILDERS[name](model)
    with session() as one:
        [num_wanted] = encode_together([evaluator], model).values()
        encoded = one.num_encoded
        assert num_wanted >= encoded > 0
        evaluator(model)
        assert one.num_encoded == encoded


def pool() -> tuple[StubModel, list[Any]]:
    texts = list(dict.fromkeys(sentences(40, 7)))[:30]
    generator = torch.Generator().manual_seed(1)
    stub = StubModel({text: torch.randn(8, generator=generator).tolist() for text in texts})
    data = dict(enumerate(texts))
    return stub, [
        evaluators.EmbeddingSimilarityEvaluator(texts[:10], texts[10:20], [i / 10 for i in range(10)]),
        evaluators.BinaryClassificationEvaluator(texts[5:15], texts[15:25], [0, 1] * 5, name="binary"),
        evaluators.InformationRetrievalEvaluator({0: texts[0]}, data, {0: {1}}, name="one"),
        evaluators.InformationRetrievalEvaluator({0: texts[0]}, data, {0: {2}}, name="two", truncate_dim=4),
    ]


@pytest.mark.parametrize("alone", [False, True])
def test_overlapping_evaluators_encode_each_text_once_in_one_call_a_task(alone: bool, tmp_path: Path) -> None:
    stub, each = pool()
    apart = {key: value for one in each for key, value in one(stub).items()}
    stub.calls.clear()
    if alone:
        result = evaluators.SequentialEvaluator(each)(stub)
    else:
        with session():
            encode_together(each, stub)
            result = {key: value for one in each for key, value in one(stub).items()}
    assert sorted(method for method, _, _ in stub.calls) == ["encode", "encode_document", "encode_query"]
    assert len(stub.encoded) == 25 + 30 + 1
    assert {key: result[key] for key in apart} == apart


def test_a_training_event_shows_one_bar_over_all_texts_and_shares_out_its_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    names = ["EmbeddingSimilarityEvaluator", "TranslationEvaluator", "RerankingEvaluator"]
    callback = EvaluatorCallback([BUILDERS[name](model, name=name.lower()) for name in names], every=8)
    make_trainer(tmp_path, [callback], model=model, disable_tqdm=False).train()
    [record] = callback.history
    assert all(record.seconds[name.lower()] > 0 for name in names)
    bars = {
        line.split("|")[2].split("[")[0].strip() for line in capsys.readouterr().err.split("\r") if "Encod" in line
    }
    totals = {bar.split("/")[1] for bar in bars}
    # Without a task for similarity and translation; as queries and documents, which this model treats alike.
    assert totals == {str(len({*A, *B, *BUILDERS["TripletEvaluator"](model).negatives[:5]}))}


def test_an_evaluator_that_fails_leaves_the_others_what_they_want(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub, each = pool()
    unknown = evaluators.EmbeddingSimilarityEvaluator(["never heard"], ["of"], [1.0], name="unknown")
    with session():
        with caplog.at_level(logging.WARNING):
            encode_together([*each, unknown], stub)
        assert "each evaluator encodes its own" in caplog.text
        assert each[0](stub)
        with pytest.raises(KeyError):
            unknown(stub)


@pytest.mark.parametrize("num_evaluators", [1, 2])
def test_a_long_corpus_is_kept_only_when_another_evaluator_wants_it(
    monkeypatch: pytest.MonkeyPatch, num_evaluators: int
) -> None:
    monkeypatch.setattr(sys.modules[Session.__module__], "_STREAM_CHUNK", 2)
    stub = StubModel({name: [float(i), 1.0] for i, name in enumerate("abcdefg")})
    corpus = {name: name for name in "abcde"}
    each = [
        evaluators.InformationRetrievalEvaluator({"q": "f"}, corpus, {"q": {"a"}}, name=str(i), corpus_chunk_size=1)
        for i in range(num_evaluators)
    ]
    with session() as one:
        encode_together(each, stub)
        for evaluator in each:
            evaluator(stub)
        kept = one.kept.num_bytes
    assert len(stub.encoded) == 1 + 5
    assert kept == (2 * 4 if num_evaluators == 1 else 2 * 4 * 6)


def test_evaluators_of_others_and_silent_ones_run_as_before() -> None:
    stub, each = pool()
    with session():
        assert encode_together([Fake(), each[0]], stub) == {0: 0, 1: 20}
