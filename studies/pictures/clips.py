"""The clips that the CNN is pre-trained on: three tasks, their labels and speakers, and log-mel frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import subtone
from subtone import corpora, upstreams

TASKS: Mapping[str, tuple[str, ...]] = {
    "emotion": ("emotale", "emotiontts-ko"),
    "intensity": ("baved",),
    "sound": ("nonverbal",),
}
"""What is learned, and on which corpora."""
UPSTREAM = "fbank:128"


@dataclass(frozen=True)
class Task:
    """The clips of one task.

    Parameters
    ----------
    labels
        Its classes.
    truth
        ``(clips,)`` place of each clip's class in ``labels``.
    speakers, corpora
        ``(clips,)`` each.
    frames
        Of each clip, ``(frames, bands)`` float16.
    """

    labels: tuple[str, ...]
    truth: npt.NDArray[np.int64]
    speakers: npt.NDArray[np.str_]
    corpora: npt.NDArray[np.str_]
    frames: list[npt.NDArray[np.float16]]

    def held_out(self, seed: int, every: int) -> npt.NDArray[np.bool_]:
        """Tell ``(clips,)`` those of every so-manieth speaker of each corpus, in an order drawn by the seed."""
        found = np.zeros(len(self.truth), bool)
        for corpus in sorted(set(self.corpora)):
            speakers = sorted(set(self.speakers[self.corpora == corpus]))
            chosen = np.random.default_rng(seed).permutation(speakers)[::every]
            found |= (self.corpora == corpus) & np.isin(self.speakers, chosen)
        return found


def read_tasks(folders: Mapping[str, Path], cache: Path | None) -> dict[str, Task]:
    """Return every task with its frames, from the cache if there is one, else computed and written to it."""
    tables = {
        task: pd.concat([_table(name, folders[name]) for name in names]) for task, names in TASKS.items()
    }
    paths = [Path(file) for table in tables.values() for file in table["file"]]
    frames = iter(_frames(paths, cache))
    return {task: _task(table, [next(frames) for _ in range(len(table))]) for task, table in tables.items()}


def _table(name: str, folder: Path) -> pd.DataFrame:
    """Return file, label, speaker and corpus of each clip."""
    if name == "nonverbal":  # no speech, so no reader of Subtone's: KIND/SPEAKER_….opus
        files = sorted(folder.glob("*/*.opus"))
        labels, speakers = [f.parent.name for f in files], [f.stem.split("_")[0] for f in files]
    else:
        table = corpora.read(name, folder)
        files = list(table.index.get_level_values("file"))
        labels = table["intensity" if name in TASKS["intensity"] else "emotion"].astype(str).tolist()
        speakers = table["speaker"].astype(str).tolist()
    return pd.DataFrame(
        {"file": [str(f) for f in files], "label": labels, "speaker": speakers, "corpus": name}
    )


def _task(table: pd.DataFrame, frames: list[npt.NDArray[np.float16]]) -> Task:
    labels = tuple(sorted(set(table["label"])))
    truth = np.array([labels.index(label) for label in table["label"]], np.int64)
    return Task(labels, truth, table["speaker"].to_numpy(str), table["corpus"].to_numpy(str), frames)


def _frames(paths: list[Path], cache: Path | None) -> list[npt.NDArray[np.float16]]:
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            if kept["names"].tolist() != [path.name for path in paths]:
                raise SystemExit(f"{cache} holds frames of other clips; delete it or name another")
            return list(np.split(kept["frames"], kept["ends"][:-1]))
    upstream = upstreams.load(UPSTREAM)
    frames = [upstream.extract([subtone.load_audio(path)])[0][0].astype(np.float16) for path in paths]
    if cache is not None:
        ends = np.cumsum([len(one) for one in frames])
        np.savez(cache, frames=np.concatenate(frames), ends=ends, names=[path.name for path in paths])
    return frames
