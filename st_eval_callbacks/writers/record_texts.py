"""What was written of a record is written again as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..history import EvalRecord, History


class RecordTexts:
    """One text a record, made once: a file that is rewritten whole costs no more with each evaluation."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[EvalRecord, tuple[str, ...], str]] = {}

    def of(self, history: History, names: Sequence[str], make: Callable[[EvalRecord], str]) -> list[str]:
        """The texts of all records.

        Args:
            history: The records.
            names: What the texts depend on besides.
            make: Makes the text of a record that is new, or was made with other names.
        """
        given, texts = tuple(names), []
        for record in history:
            known = self._kept.get(record.step)
            if known is None or known[0] != record or known[1] != given:
                known = self._kept[record.step] = (record, given, make(record))
            texts.append(known[2])
        return texts
