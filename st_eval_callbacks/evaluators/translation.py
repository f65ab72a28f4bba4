"""Translation matching: does each sentence find its translation among all?"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..distributed import is_main_process, shares
from ..encoding import key_of
from ..encoding.tables import take
from ..kernels.mining import Match, match_accuracy
from ..kernels.sparse_rows import SparseRows
from ..kernels.tables import all_pairs, num_nonfinite
from ..scorers import Scorer, Wish
from .base import Evaluator, warn_nonfinite
from .inputs import check_equal_lengths

_KEYS = ("src2trg_accuracy", "trg2src_accuracy", "mean_accuracy")
_NUM_SHOWN = 5


class TranslationEvaluator(Evaluator):
    """How often the most similar sentence of the other language has the text of the right translation.

    Accuracy from source to target, from target to source, and the mean of both, each in [0, 1], higher is better, by
    cosine similarity; among equally similar sentences the first is taken. Repeated sentences count as right whichever
    of them is found. Definitions are those of sentence-transformers.

    Args:
        source_sentences: Sentences in one language.
        target_sentences: The translation of each.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        print_wrong_matches: Whether to print each source sentence that finds a wrong target, with what it finds.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions of the embeddings to use.
        keep_per_query: Whether to keep one value for each sentence; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When there are no sentences or the lists differ in length.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")
    default_batch_size = 16

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        show_progress_bar: bool | None = False,
        batch_size: int = 16,
        name: str = "",
        print_wrong_matches: bool = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        *,
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            keep_per_query=keep_per_query,
            truncate_dims=truncate_dims,
        )
        check_equal_lengths(self.label, source_sentences=source_sentences, target_sentences=target_sentences)
        self.source_sentences = list(source_sentences)
        self.target_sentences = list(target_sentences)
        self.print_wrong_matches = print_wrong_matches
        self.csv_file = "_".join(["translation_evaluation", *filter(None, [name]), "results.csv"])

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`src2trg_accuracy`, `trg2src_accuracy` and `mean_accuracy`."""
        return list(_KEYS)

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """The mean of both directions."""
        return "mean_accuracy"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Both directions."""
        return [("src2trg", "src2trg_accuracy"), ("trg2src", "trg2src_accuracy")]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"Evaluating translation matching Accuracy of the model on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """A line a direction, in percent."""
        return [f"Accuracy {way}: {metrics[f'{way}_accuracy'] * 100:.2f}" for way in ("src2trg", "trg2src")]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Both languages."""
        return [Wish(self.source_sentences, self.options()), Wish(self.target_sentences, self.options())]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Match both lists in both directions."""
        sides = (self.source_sentences, self.target_sentences)
        source, target = (scorer.embed(side, self.options()).rows() for side in sides)
        num_wrong = num_nonfinite(source) + num_nonfinite(target)
        if num_wrong:
            warn_nonfinite(self.label, num_wrong, len(source) + len(target), "embeddings")
            self.keep(range(len(source)), dict.fromkeys(_KEYS, math.nan))
            return dict.fromkeys(_KEYS, math.nan)
        source_ids, target_ids = _ids(self.source_sentences), _ids(self.target_sentences)
        forward, backward = match_accuracy(source, target, source_ids, target_ids, shares())
        if self.print_wrong_matches and is_main_process():
            self._print_wrong(forward, source, target)
        each = [match.correct.double() for match in (forward, backward)]
        self.keep(range(len(source)), dict(zip(_KEYS, [*each, sum(each) / 2], strict=True)))
        accuracies = [float(correct.mean()) for correct in each]
        return dict(zip(_KEYS, [*accuracies, sum(accuracies) / 2], strict=True))

    def _print_wrong(self, forward: Match, source: Tensor | SparseRows, target: Tensor | SparseRows) -> None:
        for place in (~forward.correct).nonzero().flatten().tolist():
            one = torch.tensor([place], device=source.device)
            scores = all_pairs("cosine", take(source, one), target)[0]
            found = int(forward.best_index[place])
            best = scores.sort(descending=True, stable=True).indices[:_NUM_SHOWN].tolist()
            lines = [
                f"\nWrong match: source {place} finds target {found}, not {place}.",
                f"Source: {self.source_sentences[place]}",
                f"Found:  {self.target_sentences[found]} (score {scores[found]:.4f})",
                f"Right:  {self.target_sentences[place]} (score {scores[place]:.4f})",
                "Most similar targets:",
                *(f"    {one} (score {scores[one]:.4f}) {self.target_sentences[one]}" for one in best),
            ]
            # Standard output, as in sentence-transformers: it was asked for, whatever the level of logging.
            sys.stdout.write("\n".join(lines) + "\n")


def _ids(texts: Sequence[Any]) -> Tensor:
    """(N,) int64, the same for equal texts; what cannot be hashed is equal to itself only."""
    places: dict[Any, int] = {}
    return torch.tensor([places.setdefault(key_of(text), len(places)) for text in texts])
