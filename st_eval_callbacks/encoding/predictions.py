"""Pairs to scores: what is asked of a cross-encoder, and which way it is asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from ..kernels.similarity import widen
from .fallback import accepted, as_tensor
from .numbering import Numbering, Same, key_of
from .options import EncodeOptions
from .request import Request
from .standard import runs_plainly

TextPair: TypeAlias = tuple[str, str]

# What the fast path does in the place of; a subclass or a wrapper that changes any of these is asked itself.
_REPLACED = ("predict", "_inference", "_resolve_prompt")


@dataclass(frozen=True)
class PredictOptions(EncodeOptions):
    """How a list of pairs is scored; the names are those of sentence-transformers' `predict`.

    Of the attributes of `EncodeOptions`, `prompt`, `prompt_name`, `batch_size` and `show_progress_bar` have a meaning.

    Attributes:
        activation_fn: Turns (U, num_labels) outputs of the model into scores, row by row; None takes the model's own.
        apply_softmax: Whether several labels get probabilities that sum to 1, after the activation function.
    """

    activation_fn: Callable[[Tensor], Tensor] | None = None
    apply_softmax: bool = False


@dataclass(frozen=True)
class PairRequest(Request):
    """Pairs for one cross-encoder; whole rows are its outputs before the activation function.

    Where the fast path does not take them, rows are what the model's own `predict` returns.
    """

    bar: ClassVar[tuple[str, str]] = ("Predicting", "pair")

    @classmethod
    def of(
        cls, model: Any, inputs: Sequence[Any], options: EncodeOptions | None, numbering: Numbering | None = None
    ) -> PairRequest:
        """Resolve what a caller asks for.

        Args:
            model: A CrossEncoder, or any object with its `predict`.
            inputs: Pairs of texts, or whatever the model takes.
            options: How they are scored; None is the default.
            numbering: What is known of earlier lists.

        Returns:
            The request.

        Raises:
            TypeError: When `inputs` is a single pair.
            ValueError: For a prompt name the model does not have.
        """
        options = options if isinstance(options, PredictOptions) else PredictOptions()
        listed = inputs if isinstance(inputs, list) else list(inputs)
        if listed and isinstance(listed[0], str):
            raise TypeError("pairs must be a list of pairs, not a single pair.")
        numbers = None if numbering is None else numbering.recall(listed)
        pairs = listed if numbers is not None else text_pairs(listed)
        if pairs is not None and is_standard_cross_encoder(model):
            prompt = model._resolve_prompt(options.prompt, options.prompt_name) or None
            return cls(model, pairs, options, True, prompt, None, pairs, numbers=numbers)
        if pairs is not None:
            return cls(model, pairs, options, False, options.prompt, None, pairs, numbers=numbers)
        keys = list(map(key_of, listed))
        is_lasting = not any(isinstance(key, Same) for key in keys)
        return cls(model, listed, options, False, options.prompt, None, keys, is_lasting)

    @property
    def space_key(self) -> Hashable:
        """Requests with the same key share predictions."""
        options = self.options
        assert isinstance(options, PredictOptions)
        how = None if self.is_standard else (options.prompt_name, key_of(options.activation_fn), options.apply_softmax)
        return id(self.model), type(self), self.is_standard, self.is_lasting, self.prompt, how

    def view(self, table: Any) -> Any:
        """Scores as the options want them, from whole rows.

        Args:
            table: (U, num_labels) whole rows.

        Returns:
            (U,) scores where there is one label, else (U, num_labels); at least float32.
        """
        options = self.options
        assert isinstance(options, PredictOptions)
        scores = widen(table)
        if self.is_standard:
            # Not `or`: an activation function that is a module may have a length.
            activate = self.model.activation_fn if options.activation_fn is None else options.activation_fn
            with torch.no_grad():
                scores = scores if activate is None else activate(scores)
        if scores.ndim > 1 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if self.is_standard and options.apply_softmax and scores.ndim > 1:
            scores = torch.nn.functional.softmax(scores, dim=1)
        return scores


def text_pairs(inputs: list[Any]) -> list[TextPair] | None:
    """Pairs as tuples of two texts; None where some are something else.

    Args:
        inputs: P pairs: tuples, lists, or whatever a model takes.

    Returns:
        P tuples; the list itself where it holds nothing else.
    """
    kinds = set(map(type, inputs))
    if not all(hasattr(kind, "__len__") and not issubclass(kind, (str, dict)) for kind in kinds):
        return None
    if not all(len(pair) == 2 for pair in inputs):
        return None
    pairs = inputs if kinds <= {tuple} else [tuple(pair) for pair in inputs]
    return pairs if all(issubclass(kind, str) for kind in {type(text) for pair in pairs for text in pair}) else None


def is_standard_cross_encoder(model: Any) -> bool:
    """Whether a model scores pairs of texts as `CrossEncoder` itself does, with nothing special about it.

    Args:
        model: Any object.

    Returns:
        False for other classes and where `standard.is_standard` is false of a model that embeds. What a subclass does
        in `forward` or `preprocess` is no matter: both are called.
    """
    if not isinstance(model, CrossEncoder):
        return False
    replaced = any(
        name in vars(model) or getattr(type(model), name, None) is not getattr(CrossEncoder, name, None)
        for name in _REPLACED
    )
    return not replaced and runs_plainly(model)


def predict_by_model(model: Any, pairs: Sequence[Any], options: PredictOptions) -> Tensor:
    """Score pairs in one call of the model's own `predict`.

    Args:
        model: Any object with `predict`.
        pairs: At least one pair, of any kind the model takes.
        options: How they are scored.

    Returns:
        (len(pairs), num_labels) scores on the device the model returns them on; one column where there is one label.

    Raises:
        TypeError: When the model has no `predict`.
        ValueError: When the result is not one score or one row of scores a pair.
    """
    predict = getattr(model, "predict", None)
    if not callable(predict):
        raise TypeError(f"{type(model).__name__} has no predict(pairs, ...), so it cannot score pairs.")
    arguments: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": options.show_progress_bar}
    for name in ("batch_size", "prompt", "prompt_name", "activation_fn"):
        if getattr(options, name) is not None:
            arguments[name] = getattr(options, name)
    if options.apply_softmax:
        arguments["apply_softmax"] = True
    scores = as_tensor(predict(pairs if isinstance(pairs, list) else list(pairs), **accepted(predict, arguments)))
    if scores.ndim not in (1, 2) or len(scores) != len(pairs):
        raise ValueError(
            f"{type(model).__name__} returned predictions of shape {tuple(scores.shape)} for {len(pairs)} pairs; "
            f"({len(pairs)},) or ({len(pairs)}, num_labels) is needed."
        )
    return scores if scores.ndim == 2 else scores[:, None]
