"""Values of single items in a run: where they are kept, and what a new run or a resume does with those of before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sentence_transformers.base.evaluation import SequentialEvaluator
from support.bundled import BUILDERS, LABELS, RETRIEVAL, A, B, C
from support.loop import Fake, crash, make_trainer
from support.models import tiny_model

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.evaluators import (
    BinaryClassificationEvaluator,
    InformationRetrievalEvaluator,
    TripletEvaluator,
)
from st_eval_callbacks.writers.per_query import FOLDER, item_files, items_path, read_items

SAVES: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}


def triplets(name: str = "t", **settings: Any) -> TripletEvaluator:
    return TripletEvaluator(A, B, C, name=name, **settings)


def steps_of(folder: Path) -> dict[str, list[int]]:
    return {name: list(files) for name, files in item_files(folder / "eval").items()}


def test_one_switch_keeps_them_for_all_also_inside_others_under_the_keys_of_the_log(tmp_path: Path) -> None:
    inner = BinaryClassificationEvaluator(A, B, LABELS, name="pairs")
    each = {
        "docs": InformationRetrievalEvaluator(*RETRIEVAL),
        "faq": InformationRetrievalEvaluator(*RETRIEVAL),
        "sequence": SequentialEvaluator([triplets("sequence_t"), inner]),
        "fake": Fake(),
    }
    callback = EvaluatorCallback(each, every=4, keep_per_query=True)
    make_trainer(tmp_path, [callback]).train()
    files = item_files(tmp_path / "eval")
    assert sorted(files) == [
        "docs_Information-Retrieval_evaluation",
        "faq_Information-Retrieval_evaluation",
        "sequence_binary_classification_evaluation_pairs",
        "triplet_evaluation_sequence_t",
    ]
    columns: set[str] = set()
    for record in callback.history:
        for of_steps in files.values():
            for key, values in read_items(of_steps[record.step]).values.items():
                assert np.mean(values) == pytest.approx(record.metrics[key])
                columns.add(key)
    assert {key.split("_")[0] for key in columns} == {"docs", "faq", "sequence"}
    assert {"sequence_t_cosine_accuracy", "sequence_pairs_cosine_accuracy"} < columns


def test_without_the_switch_each_evaluator_decides(tmp_path: Path) -> None:
    callback = EvaluatorCallback([triplets("kept", keep_per_query=True), triplets("other")], every=4)
    make_trainer(tmp_path, [callback]).train()
    assert steps_of(tmp_path) == {"triplet_evaluation_kept": [4, 8]}


def test_the_evaluator_called_by_hand_afterwards_has_its_own_keys(tmp_path: Path) -> None:
    evaluator = triplets("")
    trainer = make_trainer(tmp_path, [EvaluatorCallback({"dev": evaluator}, every=4, keep_per_query=True)])
    trainer.train()
    result = evaluator(trainer.model, str(tmp_path / "hand"))
    assert evaluator.per_query is not None
    assert list(evaluator.per_query.values) == list(result)
    assert items_path(tmp_path / "hand", evaluator.csv_file).exists()


def test_a_resume_takes_out_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    crash(tmp_path, 7, [EvaluatorCallback([triplets(), triplets("gone")], every=2, keep_per_query=True)], **SAVES)
    assert steps_of(tmp_path) == dict.fromkeys(["triplet_evaluation_gone", "triplet_evaluation_t"], [2, 4, 6])
    trainer = make_trainer(tmp_path, [EvaluatorCallback(triplets(), every=4, keep_per_query=True)], **SAVES)
    trainer.train(resume_from_checkpoint=True)
    assert steps_of(tmp_path) == {"triplet_evaluation_gone": [2, 4], "triplet_evaluation_t": [2, 4, 8]}
    assert not list((tmp_path / "eval").glob(f"{FOLDER}.*"))


def test_of_an_evaluation_that_the_checkpoint_does_not_know_nothing_stays(tmp_path: Path) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 8}
    known = triplets("known")
    make_trainer(tmp_path, [EvaluatorCallback(known, every=4, keep_per_query=True)], **arguments).train()
    # As a run leaves it that was killed after this evaluator had run at the last step, and before that was saved.
    late = triplets("", keep_per_query=True)
    late.csv_file = "dev_" + late.csv_file
    late(tiny_model(), str(tmp_path / "eval"), 2.0, 8)
    before = item_files(tmp_path / "eval")
    old = {name: files[8].stat().st_mtime_ns for name, files in before.items()}
    assert sorted(old) == ["dev_triplet_evaluation", "triplet_evaluation_known"]
    callback = EvaluatorCallback({"known": known, "dev": Scheduled(triplets(""), every=3, at_end=False)}, every=4)
    make_trainer(tmp_path, [callback], **arguments).train(resume_from_checkpoint=True)
    after = item_files(tmp_path / "eval")
    assert {name: list(files) for name, files in after.items()} == {"triplet_evaluation_known": [4, 8]}
    assert after["triplet_evaluation_known"][8].stat().st_mtime_ns == old["triplet_evaluation_known"]


def test_a_new_run_sets_those_of_an_earlier_one_aside(tmp_path: Path) -> None:
    for every in (2, 4, 8):
        callback = EvaluatorCallback(triplets(), every=every, keep_per_query=every < 8)
        make_trainer(tmp_path, [callback]).train()
    assert steps_of(tmp_path) == {}
    kept = {
        name: sorted(int(path.stem.split("_")[1]) for path in (tmp_path / "eval" / name).rglob("step_*"))
        for name in (f"{FOLDER}.1", f"{FOLDER}.2")
    }
    assert kept == {f"{FOLDER}.1": [2, 4, 6, 8], f"{FOLDER}.2": [4, 8]}


def test_a_second_callback_leaves_what_the_first_wrote_before_the_first_step(tmp_path: Path) -> None:
    for _ in range(2):
        each = [
            EvaluatorCallback(Scheduled(triplets(name), every=4, at_start=True), keep_per_query=True) for name in "ab"
        ]
        make_trainer(tmp_path, each).train()
    assert steps_of(tmp_path) == {f"triplet_evaluation_{name}": [0, 4, 8] for name in "ab"}
    assert sorted(path.name for path in (tmp_path / "eval").glob(f"{FOLDER}*")) == [FOLDER, f"{FOLDER}.1"]


def test_all_evaluators_keep_them_together_in_training(tmp_path: Path) -> None:
    model = tiny_model()
    each = [build(model, name=name) for name, build in BUILDERS.items()]
    callback = EvaluatorCallback(each, every=8, keep_per_query=True)
    make_trainer(tmp_path, [callback], model=model).train()
    assert len(steps_of(tmp_path)) == len(BUILDERS) - 1


def test_evaluators_that_only_the_callback_names_have_files_of_their_own(tmp_path: Path) -> None:
    model = tiny_model()
    named = {name: InformationRetrievalEvaluator(*RETRIEVAL, write_predictions=True) for name in ("a", "b/c")}
    trainer = make_trainer(tmp_path, [EvaluatorCallback(named, every=4)], model=model)
    trainer.train()
    tables = {path.name: pd.read_csv(path) for path in (tmp_path / "eval").glob("*.csv")}
    assert len(tables) == 2
    assert all(table["steps"].tolist() == [4, 8] for table in tables.values())
    assert len(list((tmp_path / "eval").glob("*predictions*.jsonl"))) == 2


@pytest.mark.parametrize("keeps", [True, False])
def test_evaluators_whose_files_have_one_name_are_refused(keeps: bool, tmp_path: Path) -> None:
    each = [triplets(similarity_fn_names=[name], write_csv=not keeps) for name in ("cosine", "dot")]
    with pytest.raises(ValueError, match="'t' and 't_2' write files of the same name \\(triplet_evaluation_t\\)"):
        make_trainer(tmp_path, [EvaluatorCallback(each, keep_per_query=keeps)]).train()
    by_name = {"a": triplets("", similarity_fn_names=["cosine"]), "b": triplets("", similarity_fn_names=["dot"])}
    make_trainer(tmp_path, [EvaluatorCallback(by_name, every=4, keep_per_query=True)]).train()
    assert steps_of(tmp_path) == {"a_triplet_evaluation": [4, 8], "b_triplet_evaluation": [4, 8]}
