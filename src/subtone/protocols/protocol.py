"""The protocol as an object that names itself, and the split that it yields on a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

FoldsKind = Literal[
    "leave-one-speaker-out",
    "leave-one-session-out",
    "leave-one-sentence-out",
    "leave-one-corpus-out",
    "group-k-fold",
    "random-k-fold",
    "fixed",
    "emobox",
]
DevRule = Literal["speakers", "random", "session", "partner", "none", "listed"]
LeakKind = Literal["speaker", "audio", "sentence"]


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of a table's rows.

    Attributes
    ----------
    name
        What is tested: a speaker, a session, a corpus, or the number of the fold.
    train, dev, test
        ``(rows,)`` int64 positions in the split's table, ascending, disjoint. ``dev`` is empty under the rule
        ``"none"``.
    """

    name: str
    train: npt.NDArray[np.int64]
    dev: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """All that must be said beside a score for another lab to compare with it.

    Attributes
    ----------
    corpus
        Name of the corpus; several are joined by ``+``.
    classes
        Labels in the order of the score columns.
    merges
        ``(from, to)`` pairs applied to the corpus's emotions before the classes were chosen.
    folds, num_folds
        How test clips were chosen, and how many folds that gave.
    dev, dev_share, dev_speakers
        Where development clips came from; the share (0..1) or number of speakers held back of each training
        set.
    seed
        Of the random choices in folds and development sets.
    leaks
        Kinds of leak that were looked for and not found. What is absent here was not checked; ``speaker`` is
        never here where the folds share speakers by their nature, see `speaker_dependent`.
    clips, speakers, per_class
        Size of the data used; ``speakers`` is None when not all are known.
    clips_read
        Rows of the table before classes were chosen.
    clips_absent
        Clips that the given lists name but the table lacks.
    checksum
        sha256 over the clips, their labels and speakers (see ``clips.clip_lines``).
    folds_checksum
        sha256 over which clip is on which side in which fold.
    """

    corpus: str
    classes: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    folds: FoldsKind
    num_folds: int
    dev: DevRule
    dev_share: float
    dev_speakers: int | None
    seed: int
    leaks: tuple[LeakKind, ...]
    clips: int
    speakers: int | None
    per_class: tuple[int, ...]
    clips_read: int
    clips_absent: int
    checksum: str
    folds_checksum: str

    @property
    def speaker_dependent(self) -> bool:
        """Whether test speakers are heard in training by the nature of the folds.

        False does not promise the opposite: lists of others may share speakers too, and only ``leaks`` says
        whether that was looked for.
        """
        return self.folds == "random-k-fold"

    def describe(self) -> str:
        """The protocol in one line, to be printed with every score."""
        return " · ".join(
            part
            for part in (
                self.corpus,
                f"{len(self.classes)} classes ({', '.join(map(self._class_text, self.classes))})",
                self._folds_text(),
                f"dev: {self._dev_text()}",
                self._clips_text(),
                self._leaks_text(),
                f"sha256 {self.checksum[:8]}",
            )
            if part
        )

    def _class_text(self, label: str) -> str:
        sources = [source for source, target in self.merges if target == label]
        return label if not sources else f"{label}←{'+'.join([label, *sources])}"

    def _folds_text(self) -> str:
        if self.folds == "group-k-fold":
            return f"{self.num_folds} folds grouped by speaker, stratified, seed {self.seed}"
        if self.folds == "random-k-fold":
            return (
                f"{self.num_folds} folds of clips at random, stratified, seed {self.seed} — SPEAKER-DEPENDENT: "
                "test speakers are heard in training"
            )
        if self.folds in ("fixed", "emobox"):
            name = "EmoBox" if self.folds == "emobox" else "fixed"
            return f"{name} lists" + (f", {self.num_folds} folds" if self.num_folds > 1 else "")
        return f"{self.folds}, {self.num_folds} folds"

    def _dev_text(self) -> str:
        share = f"{100 * self.dev_share:g} %"
        number = self.dev_speakers
        texts: dict[DevRule, str] = {
            "speakers": f"{share} of training speakers"
            if number is None
            else f"{number} training speaker{'s' * (number != 1)}",
            "random": f"{share} of training clips at random (speaker-dependent)",
            "session": "one training session",
            "partner": "other speaker of the session",
            "none": "none",
            "listed": "as listed",
        }
        return texts[self.dev]

    def _clips_text(self) -> str:
        clips = str(self.clips) if self.clips == self.clips_read else f"{self.clips} of {self.clips_read}"
        absent = f" ({self.clips_absent} listed clips absent)" if self.clips_absent else ""
        speakers = "speakers unknown" if self.speakers is None else f"{self.speakers} speakers"
        return f"{clips} clips{absent}, {speakers}"

    def _leaks_text(self) -> str:
        # That speakers are shared is said with the folds already.
        expected = ("audio",) if self.speaker_dependent else ("speaker", "audio")
        unchecked = [kind for kind in expected if kind not in self.leaks]
        parts = [f"leaks not checked: {', '.join(unchecked)}"] if unchecked else []
        if "sentence" in self.leaks:
            parts.append("sentence-disjoint")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """JSON object for ``metrics.json``; `from_dict` reads it back."""
        record: dict[str, Any] = {
            "description": self.describe(),
            "speaker_dependent": self.speaker_dependent,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            record[field.name] = list(value) if isinstance(value, tuple) else value
        record["merges"] = dict(self.merges)
        record["per_class"] = dict(zip(self.classes, self.per_class))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Protocol:
        """Read back what `to_dict` wrote; what follows from the fields is not read, older records lack it."""
        values = {field.name: record[field.name] for field in fields(cls)}
        values["classes"] = tuple(values["classes"])
        values["leaks"] = tuple(values["leaks"])
        values["merges"] = tuple((source, target) for source, target in values["merges"].items())
        values["per_class"] = tuple(values["per_class"][label] for label in values["classes"])
        return cls(**values)

    def __str__(self) -> str:
        return self.describe()


@dataclass(frozen=True, eq=False)
class Split:
    """A protocol carried out on a table.

    Attributes
    ----------
    protocol
        What to print beside the scores.
    table
        The rows used, in the order of the corpus table, ``emotion`` after merging.
    folds
        Positions in ``table``.
    """

    protocol: Protocol
    table: pd.DataFrame
    folds: tuple[Fold, ...]
