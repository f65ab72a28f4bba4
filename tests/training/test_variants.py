"""Optimizers, adapters, compilers and number types that change what the weights are: ours are evaluated and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from support.loop import (
    Fake,
    StopAt,
    at_steps,
    checkpoints,
    equal_weights,
    logged,
    make_trainer,
    pairs,
    read_results,
    weights_of,
)
from support.models import TEXTS, tiny_model

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.encoding import EncodeOptions, session
from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator

VALUES = at_steps(0.1, 0.9, 0.2, 0.3)
TRAINER_EVALUATES = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": pairs(8)}


class Embedding(Fake):
    """Keeps what the model says of a few texts, by its own `encode` and by ours."""

    def __init__(self, values: Any = VALUES) -> None:
        super().__init__(values)
        self.theirs: dict[int, torch.Tensor] = {}
        self.ours: dict[int, torch.Tensor] = {}

    def __call__(self, model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        """Embed in batches of one, which both ways fill alike."""
        self.theirs[steps] = embed(model)
        with session() as shared:
            self.ours[steps] = shared.lookup(model, TEXTS, EncodeOptions(batch_size=1)).rows()
        return super().__call__(model, output_path, epoch, steps)


def embed(model: SentenceTransformer) -> torch.Tensor:
    return model.encode(TEXTS, batch_size=1, convert_to_tensor=True)


def saved_weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoint-{step}" / "model.safetensors")


def of_transformer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under the names they have in a checkpoint."""
    return {name.split("model.", 1)[1]: tensor for name, tensor in weights.items()}


# -- schedule-free optimizers -----------------------------------------------------------------------------------------

SCHEDULE_FREE = {"lr_scheduler_type": "constant"}


@pytest.mark.parametrize("optim", ["schedule_free_adamw", "schedule_free_sgd"])
def test_a_schedule_free_checkpoint_holds_the_weights_that_were_evaluated(tmp_path: Path, optim: str) -> None:
    fake = Fake(VALUES)
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path, [callback], optim=optim, save_strategy="steps", save_steps=2, **SCHEDULE_FREE)
    trainer.train()
    assert checkpoints(tmp_path) == [2, 4, 6, 8]
    for step in (2, 4, 6, 8):
        assert equal_weights(saved_weights(tmp_path, step), of_transformer(fake.weights[step]))
    assert equal_weights(weights_of(trainer.model), fake.weights[4])


@pytest.mark.parametrize("optim", ["schedule_free_adamw", "schedule_free_sgd"])
def test_schedule_free_training_goes_on_as_after_an_evaluation_of_the_trainer(tmp_path: Path, optim: str) -> None:
    def trained(name: str, callbacks: Any, **arguments: Any) -> Any:
        # Without dropout, since the Trainer's own evaluation draws random numbers.
        model = tiny_model(dropout=0.0)
        trainer = make_trainer(tmp_path / name, callbacks, model=model, optim=optim, **SCHEDULE_FREE, **arguments)
        trainer.train()
        return trainer

    ours = trained("ours", [EvaluatorCallback(Fake(), every=2)])
    theirs = trained("theirs", None, **TRAINER_EVALUATES)
    assert logged(ours, "loss") == logged(theirs, "loss")
    assert equal_weights(weights_of(ours.model), weights_of(theirs.model))
    # The way to the averaged weights and back is two interpolations, which round in the last place.
    plain = trained("plain", None)
    assert logged(ours, "loss")[:2] == logged(plain, "loss")[:2]
    losses, wanted = ([loss for _, loss in logged(trainer, "loss")] for trainer in (ours, plain))
    assert losses == pytest.approx(wanted, rel=1e-4)


# -- adapters ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model on disk, as an adapter's checkpoint names the model it belongs to."""
    # transformers may ask for a peft that is not published yet; what is used here works with those that are.
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "0.18.0")
    tiny_model().save_pretrained(str(tmp_path / "base"))
    return tmp_path / "base"


def adapted(base_model: Path) -> SentenceTransformer:
    model = SentenceTransformer(str(base_model), device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model.add_adapter(
            LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=4, lora_dropout=0.1, target_modules=["query", "value"])
        )
    return model


ADAPTER = {"learning_rate": 0.1, "save_strategy": "steps", "save_steps": 8}


def test_an_adapted_model_is_evaluated_with_its_adapter_and_trained_as_without_the_callback(
    tmp_path: Path, base_model: Path
) -> None:
    plain = make_trainer(tmp_path / "plain", None, model=adapted(base_model), **ADAPTER)
    plain.train()
    fake = Embedding()
    callback = EvaluatorCallback([fake, EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], list(range(9)))], every=2)
    trainer = make_trainer(tmp_path / "ours", [callback], model=adapted(base_model), **ADAPTER)
    before = embed(trainer.model)
    trainer.train()
    assert logged(trainer, "loss") == logged(plain, "loss")
    assert equal_weights(weights_of(trainer.model), weights_of(plain.model))
    for step in (2, 4, 6, 8):
        assert torch.allclose(fake.ours[step], fake.theirs[step], atol=1e-6)
        assert not torch.allclose(fake.ours[step], before, atol=1e-2)


def test_the_best_adapter_is_saved_and_loaded(tmp_path: Path, base_model: Path) -> None:
    fake = Embedding()
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path / "ours", [callback], model=adapted(base_model), **ADAPTER)
    trainer.train()
    assert (tmp_path / "ours" / "checkpoint-4" / "adapter_model.safetensors").exists()
    assert equal_weights(weights_of(trainer.model), fake.weights[4])
    assert torch.equal(embed(trainer.model), fake.theirs[4])
    assert not torch.equal(fake.theirs[8], fake.theirs[4])


# -- compilers and number types ---------------------------------------------------------------------------------------


def test_a_compiled_model_is_evaluated_saved_and_trained_as_without_the_callback(tmp_path: Path) -> None:
    arguments = {"torch_compile": True, "torch_compile_backend": "eager", "save_strategy": "steps", "save_steps": 4}
    plain = make_trainer(tmp_path / "plain", None, **arguments)
    plain.train()
    fake = Embedding()
    trainer = make_trainer(tmp_path / "ours", [EvaluatorCallback(fake, every=4)], **arguments)
    trainer.train()
    assert logged(trainer, "loss") == logged(plain, "loss")
    for step in (4, 8):
        saved = saved_weights(tmp_path / "ours", step)
        assert equal_weights(saved, saved_weights(tmp_path / "plain", step))
        assert equal_weights(saved, of_transformer(fake.weights[step]))
        alone = SentenceTransformer(str(tmp_path / "ours" / f"checkpoint-{step}"), device="cpu")
        assert torch.allclose(fake.ours[step], alone.encode(TEXTS, convert_to_tensor=True), atol=1e-6)


def test_with_bfloat16_the_model_computes_in_it_as_in_its_own_encode_and_training_is_the_same(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain", None, bf16=True)
    plain.train()
    fake = Embedding()
    # At other steps: what is encoded together stands in other batches, and in bfloat16 these round otherwise.
    similarity = Scheduled(EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], list(range(9))), every=3, at_end=False)
    trainer = make_trainer(tmp_path / "ours", [EvaluatorCallback([fake, similarity], every=4)], bf16=True)
    trainer.train()
    assert logged(trainer, "loss") == logged(plain, "loss")
    assert equal_weights(weights_of(trainer.model), weights_of(plain.model))
    in_float32 = tiny_model()
    in_float32.load_state_dict(fake.weights[8])
    exact = embed(in_float32)
    assert fake.ours[8].dtype == fake.theirs[8].dtype == torch.float32
    assert torch.allclose(fake.ours[8], fake.theirs[8], atol=1e-6)
    assert not torch.allclose(fake.ours[8], exact, atol=1e-4)
    assert torch.allclose(fake.ours[8], exact, atol=0.1)


# -- checkpoints of the model only ------------------------------------------------------------------------------------


def test_the_best_is_saved_and_loaded_where_only_the_model_is_saved(tmp_path: Path) -> None:
    fake = Fake(VALUES)
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    arguments = {"save_strategy": "steps", "save_steps": 8, "save_only_model": True}
    trainer = make_trainer(tmp_path, [callback], **arguments)
    trainer.train()
    assert checkpoints(tmp_path) == [2, 4, 8]
    assert not (tmp_path / "checkpoint-4" / "optimizer.pt").exists()
    assert equal_weights(weights_of(trainer.model), fake.weights[4])


def test_a_resume_from_a_checkpoint_of_the_model_only_does_what_the_trainer_does_and_keeps_the_best(
    tmp_path: Path,
) -> None:
    arguments = {"save_strategy": "steps", "save_steps": 4, "save_only_model": True}
    for name, callbacks in (("plain", []), ("ours", [EvaluatorCallback(Fake(VALUES), every=2)])):
        with pytest.raises(KeyboardInterrupt):
            make_trainer(tmp_path / name, [*callbacks, StopAt(5)], **arguments).train()
    # The Trainer goes on at the step of the checkpoint with a new optimizer and a new schedule.
    plain = make_trainer(tmp_path / "plain", None, **arguments)
    plain.train(resume_from_checkpoint=True)
    fake = Fake(VALUES)
    callback = EvaluatorCallback(fake, every=2, load_best_model_at_end=True)
    trainer = make_trainer(tmp_path / "ours", [callback], **arguments)
    best = load_file(tmp_path / "ours" / "checkpoint-4" / "model.safetensors")
    trainer.train(resume_from_checkpoint=True)
    assert logged(trainer, "loss") == logged(plain, "loss")
    assert fake.steps == [6, 8]
    assert read_results(tmp_path / "ours")["fake_score"].tolist() == [0.1, 0.9, 0.2, 0.3]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 4)
    assert equal_weights(of_transformer(weights_of(trainer.model)), best)


# -- half precision for evaluation only -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "dtype"),
    [({"bf16_full_eval": True}, torch.bfloat16), ({"fp16_full_eval": True}, torch.float16), ({}, None)],
)
def test_full_eval_in_half_precision_encodes_under_autocast_and_trains_in_full(
    tmp_path: Path, flag: dict[str, bool], dtype: torch.dtype | None
) -> None:
    inside = Embedding()
    plain = Embedding()
    trainer = make_trainer(tmp_path / "one", [EvaluatorCallback(inside, every=2)], **flag)
    trainer.train()
    make_trainer(tmp_path / "two", [EvaluatorCallback(plain, every=2)]).train()
    assert {weight.dtype for weight in trainer.model.state_dict().values() if weight.is_floating_point()} == {
        torch.float32
    }
    for step, rows in inside.ours.items():
        assert torch.equal(inside.theirs[step], plain.theirs[step])
        assert torch.equal(rows, plain.ours[step]) == (dtype is None)
        torch.testing.assert_close(rows.float(), plain.ours[step], atol=0.05, rtol=0)
