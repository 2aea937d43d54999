"""Networks that look at frames: attentive statistics and SAP with attention over runs, on a fixed upstream."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from subtone import upstreams
from subtone.aggregation import AggregatorOptions
from subtone.extraction.frames import half_of
from subtone.speech import SpeechSegments
from subtone.studies.cells import Cell, Earlier, Outcome
from subtone.training.end_to_end.downstream import DownstreamOptions, train_downstream
from subtone.training.end_to_end.frames import ClipFrames
from subtone.training.end_to_end.network import Downstream, Stream, StreamShape, shape_of
from subtone.training.end_to_end.options import FitOptions
from subtone.upstreams import Upstream

#: System → what aggregates its frames.
NETWORKS: dict[str, AggregatorOptions] = {
    "attentive": AggregatorOptions("attentive"),
    "sap-attention": AggregatorOptions("sap", std=True, form="attention"),
}
FIT = FitOptions(epochs=12, average=3, batch_s=30.0, dropout=0.3)


class Frames:
    """The frames of clips under one condition, in half precision, as they are collected."""

    def __init__(self, layers: int) -> None:
        self._layers = range(layers)
        self._frames: list[npt.NDArray[np.float16] | None] = []
        self._speech: list[SpeechSegments] = []

    @classmethod
    def collect(cls, upstream: Upstream) -> Frames:
        """Begin to collect frames of all layers."""
        return cls(upstream.num_layers)

    def add(self, frames: Tensor, speech: SpeechSegments) -> None:
        """Take the frames of the next clip, ``(layers, frames, dim)``."""
        self._frames.append(half_of(frames, self._layers).swapaxes(0, 1))
        self._speech.append(speech)

    def miss(self) -> None:
        """Keep the place of a clip that failed: it has no frames."""
        self._frames.append(None)
        self._speech.append(SpeechSegments.none(0))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a cell keeps: all frames, where each clip's begin, and where speech is."""
        lengths = [0 if one is None else len(one) for one in self._frames]
        runs = [np.stack([one.starts, one.ends], axis=1) for one in self._speech]
        return {
            "frames": np.concatenate(
                [one for one in self._frames if one is not None]
            ),  # (all frames, layers, dim)
            "frame_starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "runs": np.concatenate([*runs, np.zeros((0, 2), np.int64)]),
            "run_counts": np.array([len(one) for one in runs], np.int64),
            "wave_lengths": np.array([one.num_samples for one in self._speech], np.int64),
        }


@dataclass(frozen=True, eq=False)
class _Spoken:
    """Where clips hold speech."""

    segments: Sequence[SpeechSegments]

    def speech(self, clip: int) -> SpeechSegments:
        return self.segments[clip]


def _clip_frames(kept: Outcome, shape: StreamShape) -> ClipFrames:
    arrays = kept.arrays
    ends = np.cumsum(arrays["run_counts"])
    segments = [
        SpeechSegments(
            arrays["runs"][end - count : end, 0], arrays["runs"][end - count : end, 1], int(length)
        )
        for end, count, length in zip(ends, arrays["run_counts"], arrays["wave_lengths"], strict=True)
    ]
    return ClipFrames(shape, arrays["frame_starts"], arrays["frames"], _Spoken(segments))


def network_cell(
    system: str,
    frames: Cell,
    upstream: str,
    targets: npt.NDArray[np.int64],
    fold: Any,
    classes: int,
    seed: int,
    name: str,
) -> Cell:
    """Return the cell that trains one network for one fold, on frames that a cell has kept."""
    given = {
        "system": system,
        "frames": frames.name,
        "upstream": upstream,
        "targets": targets.tolist(),
        **{part: getattr(fold, part).tolist() for part in ("train", "dev", "test")},
        "classes": classes,
        "seed": seed,
        "fit": asdict(FIT),
        "aggregator": asdict(NETWORKS[system]),
    }
    return Cell(name, train, given, frames.cost, (frames.name,))


def train(given: Mapping[str, Any], earlier: Earlier) -> Outcome:
    """Train one network; its weights are the outcome."""
    shape = shape_of(upstreams.load(given["upstream"]), "mix")
    kept = earlier[given["frames"]]
    frames = _clip_frames(kept, shape)
    bad = [row for row, _ in kept.values["failed"]]
    rows = {part: np.setdiff1d(given[part], bad).astype(np.int64) for part in ("train", "dev")}
    with tempfile.TemporaryDirectory() as folder:
        trained = train_downstream(
            Fabric(accelerator="cpu", devices=1),
            [frames],
            np.array(given["targets"], np.int64),
            rows["train"],
            rows["dev"],
            np.empty(0, np.int64),
            given["classes"],
            Path(folder),
            DownstreamOptions(NETWORKS[given["system"]]),
            FIT,
            seed=given["seed"],
        )
    values = {"system": given["system"], "classes": given["classes"], "test": given["test"]}
    arrays = {name: value.numpy() for name, value in trained.network.state_dict().items()}
    return Outcome({**values, "epochs": trained.fitted.epochs}, arrays)


class Judges:
    """Networks of folds that score clips as they are heard, each the test clips of its fold.

    Parameters
    ----------
    networks
        One a cell.
    tests
        Which clips each scores.
    """

    def __init__(self, networks: Sequence[Downstream], tests: Sequence[set[int]], upstream: Upstream) -> None:
        self._networks, self._tests, self._upstream = networks, tests, upstream
        self._scores: list[dict[int, npt.NDArray[np.float32]]] = [{} for _ in networks]

    @classmethod
    def read(cls, outcomes: Sequence[Outcome], upstream: Upstream) -> Judges:
        """Build the networks that cells have trained."""
        shape = shape_of(upstream, "mix")
        networks = []
        for one in outcomes:
            about = one.values
            network = Downstream([shape], about["classes"], NETWORKS[about["system"]], None, 0.0)
            network.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in one.arrays.items()})
            networks.append(network.eval())
        return cls(networks, [set(one.values["test"]) for one in outcomes], upstream)

    def __bool__(self) -> bool:
        return bool(self._networks)

    @torch.inference_mode()
    def hear(self, row: int, frames: Tensor, speech: SpeechSegments) -> None:
        """Score a clip by the networks that may: frames ``(layers, frames, dim)``."""
        asked = [i for i, rows in enumerate(self._tests) if row in rows]
        if not asked:
            return
        count = frames.shape[1]
        spoken = torch.from_numpy(speech.project(self._upstream.grid, count))[None]
        stream = Stream(frames[None].float().cpu(), torch.ones(1, count, dtype=torch.bool), spoken)
        for i in asked:
            self._scores[i][row] = self._networks[i]([stream])[0].numpy()

    def arrays(self, clips: int) -> dict[str, npt.NDArray[Any]]:
        """Return ``judges/NUMBER (clips, classes)`` logits, NaN for clips that a network does not score."""
        found: dict[str, npt.NDArray[Any]] = {}
        for i, scores in enumerate(self._scores):
            logits = np.full((clips, len(next(iter(scores.values())))), np.nan, np.float32)
            for row, values in scores.items():
                logits[row] = values
            found[f"judges/{i}"] = logits
        return found
