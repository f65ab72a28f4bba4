"""How texts are encoded, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .tables import take


@dataclass(frozen=True)
class EncodeOptions:
    """How a list of inputs is encoded; the names are those of sentence-transformers' `encode`.

    Attributes:
        task: "query" encodes as `encode_query` does, "document" as `encode_document`, None as `encode`.
        prompt: Text put before every input; None takes `prompt_name`, then what the task and the model say.
        prompt_name: Key of the model's `prompts`.
        batch_size: Most inputs in a batch; None lets the lengths decide.
        truncate_dim: Leading dimensions to keep; None takes the model's own `truncate_dim`.
        normalize: Whether rows get length 1, after truncation.
        show_progress_bar: Whether the main process shows a bar over the inputs it encodes.
        max_active_dims: Most dimensions of a sparse vector that are not 0; None takes the model's own.

    Raises:
        ValueError: For an unknown task, or a batch size or number of dimensions below 1.
    """

    task: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    batch_size: int | None = None
    truncate_dim: int | None = None
    normalize: bool = False
    show_progress_bar: bool = False
    max_active_dims: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.task not in (None, "query", "document"):
            raise ValueError(f"task={self.task!r}: 'query', 'document' or None.")
        for name in ("batch_size", "truncate_dim", "max_active_dims"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: at least 1, or None.")


class Embeddings(NamedTuple):
    """Embeddings of P inputs, of which U are distinct.

    Attributes:
        table: (U, d) embeddings on the model's device, or the rows of another kind of model. Shared between callers:
            never write into it.
        index: (P,) int64, row of each input in `table`.
    """

    table: Any
    index: Tensor  # type: ignore[assignment]  # tuple's own index() is of no use here

    def rows(self) -> Any:
        """(P, d) embeddings in the order of the inputs, a copy; or the rows of another kind of model."""
        return take(self.table, self.index)
