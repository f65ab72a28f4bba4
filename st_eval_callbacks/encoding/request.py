"""What one caller asks for, with everything resolved that says which inputs are the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .fallback import encode_method
from .numbering import Numbering, Numbers, Same, key_of
from .options import EncodeOptions
from .standard import is_standard, resolved_prompt, resolved_task
from .tables import normalised, truncated


@dataclass(frozen=True)
class Request:
    """Inputs for one model.

    Attributes:
        model: The model.
        inputs: The inputs.
        options: How they are encoded.
        is_standard: Whether the fast path takes them: plain texts and a standard model.
        prompt: The prompt's text for the fast path.
        task: The task, None where the model treats all alike.
        keys: What tells the inputs apart.
        is_lasting: Whether the keys may outlive the evaluation: not where they hold objects that nobody else may want.
        numbers: Numbers of the inputs, where they are known already.
        bar: What a bar says is done, and to what.
    """

    model: Any
    inputs: list[Any]
    options: EncodeOptions
    is_standard: bool
    prompt: str | None
    task: str | None
    keys: Sequence[Hashable]
    is_lasting: bool = True
    numbers: Numbers | None = None
    bar: ClassVar[tuple[str, str]] = ("Encoding", "text")

    @classmethod
    def of(
        cls, model: Any, inputs: Sequence[Any], options: EncodeOptions | None, numbering: Numbering | None = None
    ) -> Request:
        """Resolve what a caller asks for.

        Args:
            model: A SentenceTransformer, or any object with its `encode`.
            inputs: Texts, or whatever the model takes.
            options: How they are encoded; None is the default.
            numbering: What is known of earlier lists.

        Returns:
            The request.

        Raises:
            TypeError: When `inputs` is a single text or the model has no `encode`.
            ValueError: For a prompt name the model does not have.
        """
        if isinstance(inputs, str):
            raise TypeError("inputs must be a list of texts, not a single text.")
        options = options or EncodeOptions()
        listed = inputs if isinstance(inputs, list) else list(inputs)
        numbers = None if numbering is None else numbering.recall(listed)
        if numbers is not None or all(issubclass(kind, str) for kind in set(map(type, listed))):
            if is_standard(model):
                prompt, task = resolved_prompt(model, options), resolved_task(model, options)
                return cls(model, listed, options, True, prompt, task, listed, numbers=numbers)
            keys: list[Hashable] = listed
        else:
            keys = list(map(key_of, listed))
        _, task = encode_method(model, options.task)
        is_lasting = keys is listed or not any(isinstance(key, Same) for key in keys)
        return cls(model, listed, options, False, options.prompt, task, keys, is_lasting, numbers)

    @property
    def space_key(self) -> Hashable:
        """Requests with the same key share embeddings."""
        prompt_name = None if self.is_standard else self.options.prompt_name
        kind = (self.is_standard, self.is_lasting)
        return id(self.model), kind, self.prompt, prompt_name, self.task, self.options.max_active_dims

    def part(self, start: int, end: int) -> Request:
        """The request for some of the inputs."""
        return replace(self, inputs=self.inputs[start:end], keys=self.keys[start:end], numbers=None)

    def chosen(self, places: Numbers) -> Request:
        """The request for the inputs at some places."""
        inputs = [self.inputs[place] for place in places]
        keys = inputs if self.keys is self.inputs else [self.keys[place] for place in places]
        return replace(self, inputs=inputs, keys=keys, numbers=None)

    def joined(self, options: EncodeOptions) -> EncodeOptions:
        """Options whose batches suit this request and another, with which it shares a space."""
        sizes = [size for size in (self.options.batch_size, options.batch_size) if size is not None]
        return replace(
            options,
            batch_size=min(sizes, default=None),
            show_progress_bar=self.options.show_progress_bar or options.show_progress_bar,
        )

    def view(self, table: Any) -> Any:
        """Rows as the options want them, from whole ones.

        Args:
            table: U whole rows.

        Returns:
            U rows of at most `truncate_dim` dimensions: a slice of a matrix, or a copy where rows get length 1.
        """
        dim = self.options.truncate_dim
        if dim is None:
            own = getattr(self.model, "truncate_dim", None)
            dim = own if isinstance(own, int) else None
        if dim is not None:
            table = truncated(table, dim)
        return normalised(table) if self.options.normalize else table
