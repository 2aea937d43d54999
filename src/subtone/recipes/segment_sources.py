"""The segments that the networks of a recipe are trained on: from the store of a run, each kind cut once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subtone.errors import RecipeError, StoreError, UsageError
from subtone.extraction import (
    Clip,
    Extraction,
    ExtractionOptions,
    FeatureMaps,
    FeatureStore,
    extract,
)
from subtone.recipes.progress import OnProgress
from subtone.recipes.schema import Recipe
from subtone.speech import Detector
from subtone.training.segments.source import EachAlone, Source, WithinClips, parts_of
from subtone.training.segments.system import SegmentSystem
from subtone.training.segments.windows import SegmentOptions, Windows, cut
from subtone.upstreams import Upstream

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an upstream gave for the clips of a run.

    Parameters
    ----------
    upstream, detector
        That were used.
    found
        What was extracted.
    store
        Into which, with the frames that networks look at; None where they stayed in memory, for a recipe without any.
    """

    upstream: Upstream
    detector: Detector
    found: Extraction
    store: Path | None


def frames_to_keep(recipe: Recipe, upstream: Upstream, store: str | Path) -> ExtractionOptions:
    """Return how to extract so that a store holds the layers that the recipe's networks look at.

    Raises
    ------
    StoreError
        If there is a store that keeps others.
    UsageError
        If the upstream has no such layer.
    """
    wanted = sorted({layer for one in recipe.cnns.values() for layer in layers_of(one, upstream)})
    made, options = FeatureStore.how(store), recipe.extraction.options
    if made is None:
        return replace(options, frames=tuple(wanted))
    kept = made.get("frames") or []
    if not set(wanted) <= set(kept):  # more than enough is fine
        held = f"frames of layers {_listed(kept)} alone" if kept else "no frames"
        raise StoreError(
            f"{store}: holds {held}, and networks on segments (cnns) need those of {_listed(wanted)}; name another "
            "--store folder, into which they are extracted then, or delete this one"
        )
    return options


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def layers_of(system: SegmentSystem, upstream: Upstream) -> tuple[int, ...]:
    """Return the layers of an upstream that a system looks at.

    Raises
    ------
    UsageError
        If there is no such layer.
    """
    if system.layer is None:
        return tuple(range(upstream.num_layers))
    if not -upstream.num_layers <= system.layer < upstream.num_layers:
        raise UsageError(
            f"cnns: layer {system.layer} is asked for, {upstream.name!r} has layers 0 to {upstream.num_layers - 1}"
        )
    return (system.layer % upstream.num_layers,)


class Sources:
    """The segments that systems ask for, each kind cut once."""

    def __init__(
        self,
        encoded: Encoded,
        clips: Sequence[Clip],
        keys: Sequence[str],
        num_samples: Rows,
        options: ExtractionOptions,
        tell: OnProgress,
    ) -> None:
        assert encoded.store is not None
        self._encoded, self._store = encoded, encoded.store
        self._clips, self._keys, self._num_samples = clips, keys, num_samples
        self._options, self._tell = options, tell
        self._known: dict[tuple[SegmentOptions, tuple[int, ...]], Source] = {}
        self._whole: dict[tuple[int, ...], FeatureMaps] = {}
        self._alone: list[FeatureMaps] = []

    def of(self, system: SegmentSystem) -> Source:
        """Return the segments of all clips as a system wants them.

        Raises
        ------
        RecipeError
            If segments are to be encoded by themselves and one cannot be.
        """
        layers = layers_of(system, self._encoded.upstream)
        key = (replace(system.segments, shift=False), layers)
        if key not in self._known:
            self._known[key] = self._cut(system.segments, layers)
        return self._known[key]

    def _cut(self, options: SegmentOptions, layers: tuple[int, ...]) -> Source:
        if layers not in self._whole:
            self._whole[layers] = FeatureMaps(FeatureStore.open(self._store), self._keys, layers)
        maps = self._whole[layers]
        grid = self._encoded.upstream.grid
        speech = [
            one.project(grid, int(length)) for one, length in zip(maps.speech, maps.lengths, strict=True)
        ]
        windows = cut(maps.lengths.tolist(), speech, grid.hop / grid.sample_rate_hz, options)
        return WithinClips(maps, windows) if options.context == "clip" else self._each(windows, layers)

    def _each(self, windows: Windows, layers: tuple[int, ...]) -> EachAlone:
        """Encode each segment by itself, into the same store."""
        encoded = self._encoded
        grid = encoded.upstream.grid
        parts = parts_of(windows, self._clips, self._num_samples / grid.sample_rate_hz, grid)
        found = extract(
            parts,
            encoded.upstream,
            encoded.detector,
            statistics=(),
            store=self._store,
            options=self._options,  # whose layers are those that the store keeps
            on_progress=lambda state: self._tell(
                f"extracting segments: {state.sentence()}", state.done, state.total
            ),
        )
        if found.failed:
            raise RecipeError(
                f"{len(found.failed)} of {len(parts)} segments cannot be encoded by themselves: "
                f"{found.failed[0].message}; mend or leave out that recording, or take segments.context=clip"
            )
        maps = FeatureMaps(FeatureStore.open(self._store), found.keys, layers)
        self._alone.append(maps)
        return EachAlone(maps, windows)

    def close(self) -> None:
        """Close the files of the store."""
        for maps in (*self._whole.values(), *self._alone):
            maps.close()
