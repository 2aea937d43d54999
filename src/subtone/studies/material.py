"""What a study is made on: the clips of each corpus, decoded once, and how they are divided."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import safe_open

from subtone import corpora as corpora_room
from subtone import protocols
from subtone.audio import SAMPLE_RATE_HZ, load_audio
from subtone.errors import ProtocolError, SubtoneError, UsageError, nearest
from subtone.extraction import clips_of
from subtone.protocols import Split, speaker_ids
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.studies.options import StudyOptions
from subtone.studies.pool import OnProgress, run_cells

Wave = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Waves:
    """Decoded clips in one file: ``waves[row]`` is ``(samples,)`` float32 at 16 kHz."""

    def __init__(self, path: Path) -> None:
        # Mapped into memory: a corpus may be larger than that.
        file: Any = safe_open(path, framework="np")
        self._starts = file.get_tensor("starts")  # (clips + 1,)
        self._samples = file.get_slice("samples")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Wave:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return np.asarray(self._samples[self._starts[row] : self._starts[row + 1]], np.float32)


@dataclass(frozen=True, eq=False)
class Material:
    """One corpus in a study.

    Parameters
    ----------
    name
        Of the corpus.
    split
        Its clips and folds; test speakers are in no training, development speakers chose the training's length.
    waves
        Cell of the decoded clips, one a row of the table.
    seconds
        Of audio.
    failed
        Clips that could not be read, and why.
    """

    name: str
    split: Split
    waves: Cell
    seconds: float
    failed: tuple[tuple[str, str], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Emotions, in the order of all scores."""
        return tuple(self.split.protocol.classes)

    @property
    def targets(self) -> Rows:
        """``(clips,)`` class numbers."""
        number = {label: i for i, label in enumerate(self.classes)}
        return np.array([number[str(one)] for one in self.split.table["emotion"]], np.int64)

    @property
    def speakers(self) -> list[Any]:
        """``(clips,)``, unique over corpora."""
        return list(speaker_ids(self.split.table))

    def sentence(self) -> str:
        """What it is, in words."""
        return f"{self.name}: {self.split.protocol.describe()}"


def gather(
    corpora: Mapping[str, str | Path],
    options: StudyOptions,
    folder: Path,
    *,
    jobs: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[Material]:
    """Read, thin, decode and divide the corpora.

    Parameters
    ----------
    corpora
        Corpus → your copy of it.
    options
        Which clips, and how they are divided.
    folder
        Of the study's cells.
    jobs, on_progress
        See :func:`subtone.studies.pool.run_cells`.

    Raises
    ------
    UsageError
        If there is no corpus, a thinning names an unknown one, or nothing can be read.
    CorpusError, ProtocolError
        If a corpus cannot be read or divided.
    """
    if not corpora:
        raise UsageError("no corpus given; pass --corpus NAME=PATH")
    known = [corpora_room.get(name).name for name in corpora]
    for name in known:
        if known.count(name) > 1:
            raise UsageError(f"corpus {name!r} is given twice, under two names; give it once")
    for name in options.every:
        if corpora_room.get(name).name not in known:
            raise UsageError(f"every: corpus {name!r} is not among those given ({', '.join(known)})")
    tables = {name: _table(name, path, options) for name, path in corpora.items()}
    _check_apart(tables)
    there = {str(one) for table in tables.values() for one in table["emotion"].unique()}
    for label in options.classes or ():
        if label not in there:
            raise UsageError(f"classes: no corpus has the emotion {label!r}; {nearest(label, there)}")
    for name, table in tables.items():  # told now, not when all is decoded
        try:
            _divided(table, options)
        except ProtocolError as error:
            fewer = (
                f" (every = {options.every_of(name)} leaves {len(table)} clips)"
                if options.every_of(name) > 1
                else ""
            )
            raise UsageError(f"corpus {name!r}{fewer}: {error}") from None
    cells = {name: _waves_cell(name, table) for name, table in tables.items()}
    found, missing = run_cells(list(cells.values()), folder, jobs=jobs, on_progress=on_progress)
    if missing:
        raise UsageError(f"{missing[0].cell}: {missing[0].message}")
    gathered = []
    for name, table in tables.items():
        about = found[cells[name].name].values
        kept = table.iloc[about["rows"]]
        failed = tuple((str(file), str(why)) for file, why in about["failed"])
        if not len(kept):
            raise UsageError(f"corpus {name!r}: no clip could be read; the first: {failed[0][1]}")
        split = _divided(kept, options)
        cell = cells[name]
        order = split.table[_POSITION].to_numpy(np.int64)
        if not np.array_equal(order, np.arange(len(kept))):
            raise UsageError(f"corpus {name!r}: its folds leave out clips; a study needs each in a fold")
        gathered.append(Material(name, split, cell, float(about["seconds"]), failed))
    return gathered


_POSITION = "position"


def _check_apart(tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse recordings that are in two corpora: one would be trained on, the other tested."""
    owner: dict[str, str] = {}
    for name, table in tables.items():
        for file in table.index.get_level_values("file").unique():
            other = owner.setdefault(os.path.realpath(file), name)
            if other != name:
                raise UsageError(
                    f"{file} is in both corpus {other!r} and corpus {name!r}: what is trained on must not be tested; "
                    "give each recording once"
                )


def _table(name: str, path: str | Path, options: StudyOptions) -> pd.DataFrame:
    table = corpora_room.read(name, path, **options.reading_of(name))
    merges = dict(options.merges)
    emotions = table["emotion"].map(lambda one: merges.get(one, one), na_action="ignore")
    chosen = emotions.notna()
    if options.classes is not None:
        chosen &= emotions.isin(options.classes)
    wanted = chosen.fillna(False).to_numpy(bool)
    if not wanted.any():
        raise UsageError(
            f"corpus {name!r}: no clip is left with the classes {', '.join(options.classes or ())}"
        )
    every = options.every_of(name)
    return table.assign(emotion=emotions)[wanted].iloc[::every]


def _divided(table: pd.DataFrame, options: StudyOptions) -> Split:
    speakers = table["speaker"].nunique()
    return protocols.build(
        table.assign(**{_POSITION: np.arange(len(table))}),
        "group-k-fold" if speakers > options.k else "leave-one-speaker-out",
        k=options.k,
        classes=[one for one in options.classes if (table["emotion"] == one).any()]
        if options.classes
        else None,
        dev="speakers",
        seed=options.seed,
    )


def _waves_cell(name: str, table: pd.DataFrame) -> Cell:
    clips = [[clip.file, clip.start_s, clip.end_s, *_stamp(clip.file)] for clip in clips_of(table)]
    return Cell(f"{name}/waves", decode, {"clips": clips}, cost=len(clips))


def _stamp(file: str) -> tuple[int, int]:
    """Return what changes when a file does: size and time; zeros where there is none."""
    try:
        about = os.stat(file)
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns


def decode(given: Mapping[str, Any], _earlier: Earlier) -> Outcome:
    """Decode clips into one array; one that cannot be read is named and left out."""
    waves: list[Wave] = []
    rows: list[int] = []
    failed: list[tuple[str, str]] = []
    for row, (file, start_s, end_s, *_) in enumerate(given["clips"]):
        try:
            wave = load_audio(file, start_s=float(start_s), end_s=end_s)
        except SubtoneError as error:
            failed.append((Path(file).name, str(error)))
            continue
        if not np.any(wave):
            failed.append((Path(file).name, f"{file}: holds no sound"))
            continue
        waves.append(wave)
        rows.append(row)
    lengths = [len(wave) for wave in waves]
    samples = np.concatenate([*waves, np.zeros(0, np.float32)])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = {"rows": rows, "failed": failed, "seconds": sum(lengths) / SAMPLE_RATE_HZ}
    return Outcome(values, {"samples": samples, "starts": starts})
