"""Knowledge distillation: sentence-transformers' values, and the cases that must come out right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import StubModel, tiny_model, tiny_static_model
from support.parity import assert_equal_to_peer, read_csv, sentences

from st_eval_callbacks.evaluators import MSEEvaluator, MSEEvaluatorFromDataFrame

PAIRS = [("en", "de"), ("en", "fr"), ("fr", "de")]


def table(num=30):
    columns = {language: sentences(num, seed) for seed, language in enumerate(("en", "de", "fr"))}
    return [{language: texts[i] for language, texts in columns.items()} for i in range(num)]


def student_of(values, **kwargs):
    return StubModel({text: row for text, row in zip("abc", values, strict=False)}, **kwargs)


@pytest.mark.parametrize("settings", [{}, {"name": "dev", "batch_size": 5}, {"truncate_dim": 6}])
def test_it_is_equal_to_the_peer(settings, tmp_path, caplog):
    source, target, teacher = sentences(60, 1), sentences(60, 2), tiny_model(seed=1)
    ours, theirs = (kind(source, target, teacher, **settings) for kind in (MSEEvaluator, peer.MSEEvaluator))
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)
    assert ours.source_embeddings == pytest.approx(theirs.source_embeddings, abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"name": "dev", "batch_size": 5}, {"truncate_dim": 6}])
def test_from_a_table_it_is_equal_to_the_peer_but_for_a_title_in_the_log(settings, tmp_path, caplog):
    rows, teacher = table(), tiny_model(seed=1)
    rows[3]["de"], rows[4]["en"] = "  ", ""
    kinds = (MSEEvaluatorFromDataFrame, peer.MSEEvaluatorFromDataFrame)
    ours, theirs = (kind(rows, teacher, PAIRS, **settings) for kind in kinds)
    title = ours.title(ours._when(2, 30))
    if ours.truncate_dim:
        # The peer leaves it out of the card.
        theirs.get_config_dict = lambda: {"truncate_dim": 6}
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog, more_lines=[title])
    assert ours.data == theirs.data
    assert list(ours.teacher_embeddings[rows[0]["en"]]) == pytest.approx(
        list(theirs.teacher_embeddings[rows[0]["en"]]), abs=1e-5
    )


def test_the_teacher_and_the_student_may_be_of_different_kinds_and_prompts(tmp_path, caplog):
    teacher = tiny_static_model(truncate_dim=8, prompts={"p": "find : "}, default_prompt_name="p")
    student = tiny_model(truncate_dim=8, prompts={"query": "passage : "})
    texts = sentences(20)
    ours, theirs = (kind(texts, texts, teacher) for kind in (MSEEvaluator, peer.MSEEvaluator))
    assert_equal_to_peer(ours, theirs, student, tmp_path, caplog)


def test_the_error_is_the_mean_over_texts_and_dimensions_times_100(tmp_path):
    teacher, student = student_of([[0, 0], [1, 1]]), student_of([[0.5, 0], [1, 3]])
    evaluator = MSEEvaluator(["a", "b"], ["a", "b"], teacher)
    assert evaluator(student, str(tmp_path)) == pytest.approx({"negative_mse": -100 * (0.25 + 4) / 4})
    header, row = read_csv(tmp_path, evaluator)
    assert (header[-1], float(row[-1])) == ("MSE", pytest.approx(106.25))


def test_a_student_equal_to_its_teacher_has_no_error():
    model = tiny_model()
    texts = sentences(20)
    assert MSEEvaluator(texts, texts, model)(model)["negative_mse"] == pytest.approx(0, abs=1e-9)


def test_the_teacher_embeds_each_text_once_and_never_again():
    teacher, student = student_of([[0, 0], [1, 1]]), student_of([[0.5, 0], [1, 3]])
    evaluator = MSEEvaluator(["a", "b", "a"], ["a", "b", "b"], teacher)
    results = [evaluator(student), evaluator(student)]
    assert results[0] == results[1]
    assert sorted(teacher.encoded) == ["a", "b"]


def test_the_teacher_stays_what_it_was_when_the_student_is_the_same_object_and_trains():
    model = student_of([[0.0, 0.0], [1.0, 1.0]])
    evaluator = MSEEvaluator(["a", "b"], ["a", "b"], model)
    model.vectors["a"] = [2.0, 0.0]
    assert evaluator(model) == {"negative_mse": -100.0}


def test_from_a_table_the_student_embeds_each_text_once_over_all_pairs():
    teacher, student = student_of([[0, 0], [1, 1], [2, 2]]), student_of([[0, 1], [1, 2], [2, 4]])
    rows = [{"en": "a", "de": "b", "fr": "c"}, {"en": "b", "de": "b", "fr": "a"}]
    evaluator = MSEEvaluatorFromDataFrame(rows, teacher, [("en", "de"), ("fr", "de"), ("en", "fr")])
    evaluator(student)
    assert sorted(student.encoded) == sorted(teacher.encoded) == ["a", "b", "c"]


def test_the_result_of_a_table_is_the_mean_over_pairs_not_over_sentences(tmp_path):
    teacher, student = student_of([[0.0], [0.0], [0.0]]), student_of([[1.0], [2.0], [3.0]])
    rows = [{"en": "a", "de": "a", "fr": "c"}, {"en": "b", "de": "b", "fr": None}]
    evaluator = MSEEvaluatorFromDataFrame(rows, teacher, [("en", "de"), ("en", "fr")])
    assert evaluator(student, str(tmp_path)) == {"negative_mse": -(250.0 + 900.0) / 2}
    assert read_csv(tmp_path, evaluator) == [["epoch", "steps", "en-de", "en-fr"], ["-1", "-1", "250.0", "900.0"]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("in_teacher", [True, False])
def test_an_embedding_that_is_not_finite_makes_the_result_nan_with_one_warning(bad, in_teacher, caplog):
    healthy, broken = student_of([[0.0], [1.0]]), student_of([[0.0], [bad]])
    teacher, student = (broken, healthy) if in_teacher else (healthy, broken)
    table_of_one = [{"en": "a", "de": "a"}, {"en": "b", "de": "b"}]
    for evaluator in (
        MSEEvaluator(["a", "b"], ["a", "b"], teacher, name="dev"),
        MSEEvaluatorFromDataFrame(table_of_one, teacher, [("en", "de")], name="dev"),
    ):
        caplog.clear()
        assert math.isnan(evaluator(student)["dev_negative_mse"])
        assert len(caplog.records) == 1
        assert f"{type(evaluator).__name__}('dev'): 1 of 2" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_compared_in_float32(dtype):
    # The squares overflow float16; the differences are exact in float32.
    teacher, student = student_of([[1000.0], [8.0]], dtype=dtype), student_of([[0.0], [8.0]], dtype=dtype)
    assert MSEEvaluator(["a", "b"], ["a", "b"], teacher)(student) == {"negative_mse": -100 * 1000.0**2 / 2}


def test_double_precision_stays():
    teacher, student = (student_of([[value]], dtype=torch.float64) for value in (1.0, 1.0 + 1e-9))
    assert MSEEvaluator(["a"], ["a"], teacher)(student)["negative_mse"] == pytest.approx(-1e-16, rel=1e-6)


def test_only_the_compared_dimensions_of_the_teacher_are_kept():
    teacher = student_of([[1, 2, 3, 4], [5, 6, 7, 8]])
    evaluator = MSEEvaluator(["a", "b"], ["a", "b"], teacher, truncate_dim=2)
    assert evaluator.source_embeddings.tolist() == [[1, 2], [5, 6]]
    assert evaluator._teacher.table.untyped_storage().nbytes() == 2 * 2 * 4
    assert evaluator(student_of([[1, 4], [5, 6]])) == {"negative_mse": -100.0}


def test_models_of_different_width_are_named_with_the_way_out():
    evaluator = MSEEvaluator(["a"], ["a"], student_of([[1, 2, 3]]))
    with pytest.raises(ValueError, match="teacher's embeddings have 3 dimensions, the model's 1; truncate_dim"):
        evaluator(student_of([[1]]))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: MSEEvaluator([], [], tiny_model()), ValueError, "nothing to evaluate"),
        (lambda: MSEEvaluator(["a"], [], tiny_model()), ValueError, "1 source_sentences, 0 target_sentences"),
        (lambda: MSEEvaluator(["a"], ["a"]), ValueError, "MSEEvaluator: there is no teacher_model"),
        (lambda: MSEEvaluator(["a"], ["a"], object()), TypeError, "object has no encode"),
        (lambda: MSEEvaluatorFromDataFrame([], tiny_model(), []), ValueError, "combinations are empty"),
        (lambda: MSEEvaluatorFromDataFrame([], tiny_model(), [("en", "de")]), ValueError, "no row has a sentence"),
        (
            lambda: MSEEvaluatorFromDataFrame([{"en": "a", "de": " "}], tiny_model(), [("en", "de")]),
            ValueError,
            "no row has a sentence both in 'en' and in 'de'",
        ),
        (
            lambda: MSEEvaluatorFromDataFrame([{"en": "a", "fr": "a"}], tiny_model(), [("en", "de")]),
            ValueError,
            "row 0 has no 'de', only en, fr",
        ),
        (lambda: MSEEvaluatorFromDataFrame(table(2), None, PAIRS), ValueError, "there is no teacher_model"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_construction(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_blank_sentences_of_a_table_are_left_out_and_counted(caplog):
    rows = [{"en": "a", "de": "b"}, {"en": "a", "de": None}, {"en": " ", "de": "b"}]
    evaluator = MSEEvaluatorFromDataFrame(rows, student_of([[0.0], [1.0]]), [("en", "de")], name="ted")
    assert evaluator.data == {("en", "de"): (["a"], ["b"])}
    assert [record.getMessage() for record in caplog.records] == [
        "MSEEvaluatorFromDataFrame('ted'): 2 of 3 rows have no sentence in 'en' or in 'de' "
        "and are left out of that pair."
    ]


def test_values_do_not_depend_on_how_often_a_text_comes():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(3, 5)).tolist(), rng.normal(size=(3, 5)).tolist()
    teacher, student = student_of(left), student_of(right)
    source, target = list("abcabc"), list("bcacab")
    expected = np.mean(
        (np.array([left["abc".index(t)] for t in source]) - [right["abc".index(t)] for t in target]) ** 2
    )
    assert MSEEvaluator(source, target, teacher)(student)["negative_mse"] == pytest.approx(-100 * expected, rel=1e-6)
