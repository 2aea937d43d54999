"""Scores that are ready already as what gives clips their intensity, and the choice between them and a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from subtone.errors import AudioError, UsageError, nearest
from subtone.extraction.clips import Clip
from subtone.pretraining.intensity.align import Curve, align, read_scores
from subtone.pretraining.intensity.model import IntensityModel


@dataclass(frozen=True, eq=False)
class ReadyScores:
    """Frame scores of whole recordings, of whatever hop, told apart by the recordings' names.

    Parameters
    ----------
    name
        Of the table, for messages.
    curves
        File stem → ``(scores,)`` in [0, 1].
    digest
        SHA-256 of the table.
    """

    name: str
    curves: Mapping[str, Curve]
    digest: str

    @classmethod
    def read(cls, path: str | Path) -> ReadyScores:
        """Read a table; see `subtone.pretraining.intensity.align.read_scores`.

        Raises
        ------
        UsageError
            If it cannot be read, breaks the rules, or a score is not in [0, 1].
        """
        curves = read_scores(path)
        for clip, curve in curves.items():
            if curve.min() < 0 or curve.max() > 1:
                raise UsageError(
                    f"{path}: clip {clip!r}: scores from {curve.min():g} to {curve.max():g}; bring all to 0 to 1 first"
                )
        return cls(str(path), curves, hashlib.sha256(Path(path).read_bytes()).hexdigest())

    def check(self, clips: Iterable[Clip]) -> None:
        """Refuse recordings that one name stands for.

        Raises
        ------
        UsageError
            Naming the first two.
        """
        files: dict[str, str] = {}
        for clip in clips:
            other = files.setdefault(Path(clip.file).stem, clip.file)
            if other != clip.file:
                raise UsageError(
                    f"{self.name}: tells recordings by their names, and {other} and {clip.file} share theirs; "
                    "rename one"
                )

    def of(self, clip: Clip, num_frames: int) -> Curve:
        """Return a clip's scores stretched linearly over its frames, ``(frames,)`` float32.

        Raises
        ------
        AudioError
            If there are none, or the clip is a part of a recording: scores are of whole ones.
        """
        curve = self.curves.get(Path(clip.file).stem)
        if curve is None:
            raise AudioError(
                f"{clip.file}: has no score in {self.name}; {nearest(Path(clip.file).stem, self.curves)[:100]}"
            )
        if clip.start_s > 0 or clip.end_s is not None:
            raise AudioError(
                f"{clip.file}: {self.name} scores whole recordings, and only a part of this one is asked for; cut it "
                "into files of their own"
            )
        return align(curve, num_frames)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the table."""
        return self.digest


def open_intensity(name_or_path: str | Path) -> IntensityModel | ReadyScores:
    """Open what gives intensity: ready scores where the name ends in ``.csv``, else a model.

    Raises
    ------
    UsageError
        If the table cannot be used.
    BundleError
        If there is no such model, or it is damaged.
    """
    path = Path(name_or_path).expanduser()
    return ReadyScores.read(path) if path.suffix.lower() == ".csv" else IntensityModel.load(path)
