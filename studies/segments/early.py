"""How early can one tell? The study's systems, trained on whole clips, hear only the beginnings of their test clips.

    python early.py --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb --upstream WHISPER --out OUT

After ``run.py``, into the same OUT. A beginning ends so many seconds after the speech begins, as Silero finds it, and
is cut from the recording before anything is computed of it: no upstream hears what comes later. Networks are those
that ``run.py`` left; GAP ‖ SAP and the SVM are fitted again, on the same folds. Beside it: UA of a
single segment that was encoded by itself, one of each clip at random, in expectation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from run import ENDS

from subtone import recipes, upstreams
from subtone.evaluation import describe_environment, evaluate
from subtone.extraction import (
    Clip,
    Extraction,
    ExtractionOptions,
    FeatureMaps,
    FeatureStore,
    clips_of,
    extract,
)
from subtone.extraction.functionals import functionals
from subtone.protocols import Split, speaker_ids
from subtone.recipes.data import divide, read_corpora, targets
from subtone.recipes.judge import probabilities
from subtone.speech import get_detector
from subtone.training import train_frozen
from subtone.training.end_to_end.network import Batch
from subtone.training.segments.saving import load_network
from subtone.training.segments.source import EachAlone, WithinClips, parts_of
from subtone.training.segments.system import SegmentSystem
from subtone.training.segments.train import score_clips
from subtone.training.segments.windows import Windows, cut
from subtone.training.svm import train_svm
from subtone.upstreams import Upstream

POOLED = ("gap_mean", "gap_std", "sap_mean", "sap_std")
CNN, TRANSFER = "cnn-1s", "transfer-cnn-1s"
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """A divided corpus, with where its features and runs lie."""

    name: str
    split: Split
    clips: list[Clip]
    out: Path

    @property
    def runs(self) -> Path:
        """Folder of its results, all classes."""
        return self.out / f"{self.name}-all"

    def store(self, upstream: Upstream) -> Path:
        """Where features of an upstream lie."""
        return self.out / "stores" / (self.name + ("-fbank" if upstream.name.startswith("fbank") else ""))


def read(name: str, path: str, out: Path) -> Corpus:
    """Divide a corpus as the recipes did.

    Raises
    ------
    SystemExit
        If the runs were made on other folds.
    """
    recipe = recipes.load("segment-cnn")
    split = divide(recipe, {name: path}, read_corpora(recipe, {name: path}))
    corpus = Corpus(name, split, clips_of(split.table), out)
    for run in ("segment-cnn", "transfer-cnn", "svm-egemaps"):
        made = json.loads((corpus.runs / run / "metrics.json").read_text())["protocol"]["folds_checksum"]
        if made != split.protocol.folds_checksum:
            raise SystemExit(f"{corpus.runs / run}: other folds than those of {path}")
    return corpus


def features(corpus: Corpus, clips: list[Clip], upstream: Upstream) -> tuple[Extraction, FeatureMaps]:
    """Encode clips into the store of the study."""
    store = corpus.store(upstream)
    found = extract(
        clips, upstream, get_detector(), statistics=POOLED, store=store, options=ExtractionOptions()
    )
    if found.failed:
        raise SystemExit(found.failed[0].message)
    return found, FeatureMaps(FeatureStore.open(store), found.keys)


def measures(clips: list[Clip], store: Path) -> Scores:
    """Return openSMILE's eGeMAPS functionals, kept in the store of the study."""
    found = functionals(clips, "egemaps", store=store)
    if found.failed:
        raise SystemExit(found.failed[0].message)
    return found.values


def segments(maps: FeatureMaps, upstream: Upstream, system: SegmentSystem) -> Windows:
    """Cut clips as a system does."""
    grid = upstream.grid
    spoken = [one.project(grid, int(n)) for one, n in zip(maps.speech, maps.lengths, strict=True)]
    return cut(maps.lengths.tolist(), spoken, grid.hop / grid.sample_rate_hz, system.segments)


def beginnings(corpus: Corpus, whole: FeatureMaps, seconds: float) -> list[Clip]:
    """Return the clips, each cut ``seconds`` after its speech begins; whole where it ends before."""
    cuts = []
    for clip, speech in zip(corpus.clips, whole.speech, strict=True):
        onset = float(speech.seconds[0, 0]) if len(speech) else 0.0
        end = onset + seconds
        lasts = speech.num_samples / speech.sample_rate_hz
        cuts.append(clip if end >= lasts else Clip(clip.file, clip.start_s, clip.start_s + end))
    return cuts


def by_networks(corpus: Corpus, run: str, name: str, maps: FeatureMaps, upstream: Upstream) -> Scores:
    """Score clips by the networks that a run left, each those of its fold."""
    scores = np.empty((len(maps), len(corpus.split.protocol.classes)), np.float32)
    for number, fold in enumerate(corpus.split.folds, 1):
        folder = corpus.runs / f"{run}.work" / run / name / f"fold{number}-seed0"
        network, saved_as = load_network(folder / "network.safetensors")
        source = WithinClips(maps, segments(maps, upstream, saved_as.system))
        scores[fold.test] = score_clips(network, source, fold.test)
    return scores


def measured(corpus: Corpus, scores: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return UA and WA with their intervals."""
    split = corpus.split
    found = evaluate(
        split.table["emotion"].to_numpy(object),
        probabilities(np.asarray(scores, np.float32))[None],
        split.protocol.classes,
        speaker_ids(split.table),
    )
    return {"ua": found.ua, "ua_ci": list(found.ua_ci), "wa": found.wa, "wa_ci": list(found.wa_ci)}


def early(corpus: Corpus, encoder: Upstream, banks: Upstream, times: Sequence[float]) -> dict[str, Any]:
    """Measure all systems on the beginnings of the test clips, so many seconds long."""
    split, classes = corpus.split, len(corpus.split.protocol.classes)
    wanted = targets(split)
    whole, maps = features(corpus, corpus.clips, encoder)
    recipe = recipes.load("segment-cnn")
    pooled = train_frozen(
        whole.features.matrix(POOLED), wanted, split.folds, [0], classes, recipe.training.options
    )
    store = corpus.out / "stores" / corpus.name
    machine = train_svm(
        measures(corpus.clips, store),
        wanted,
        split.folds,
        classes,
        recipes.load("svm-egemaps").svms["svm-egemaps"].svm,
    )

    def by_pooling(found: Extraction) -> Scores:
        x = torch.from_numpy(found.features.matrix(POOLED))
        scores = np.empty((len(x), classes), np.float32)
        for number, fold in enumerate(split.folds):
            with torch.no_grad():
                reduced = pooled.reductions[number](x[torch.from_numpy(fold.test)])
                scores[fold.test] = pooled.classifiers[number][0](reduced).numpy()
        return scores

    def by_machine(clips: list[Clip]) -> Scores:
        values = measures(clips, store)
        scores = np.empty((len(values), classes), np.float32)
        for number, fold in enumerate(split.folds):
            scores[fold.test] = machine.models[number].logits(values[fold.test])
        return scores

    told: dict[str, Any] = {}
    for seconds in (*times, float("inf")):
        clips = beginnings(corpus, maps, seconds)
        found, cut_maps = features(corpus, clips, encoder)
        _, cut_banks = features(corpus, clips, banks)
        ways: Mapping[str, Callable[[], Scores]] = {
            "gap+sap": lambda found=found: by_pooling(found),
            CNN: lambda maps=cut_maps: by_networks(corpus, "segment-cnn", CNN, maps, encoder),
            TRANSFER: lambda maps=cut_banks: by_networks(corpus, "transfer-cnn", TRANSFER, maps, banks),
            "svm-egemaps": lambda clips=clips: by_machine(clips),
        }
        ended = sum(a == b for a, b in zip(clips, corpus.clips, strict=True)) / len(clips)
        key = "all" if seconds == float("inf") else f"{seconds:g}"
        told[key] = {"ended": ended, "systems": {n: measured(corpus, way()) for n, way in ways.items()}}
        print(
            corpus.name,
            key,
            {n: round(100 * one["ua"], 1) for n, one in told[key]["systems"].items()},
            flush=True,
        )
    return told


def single(corpus: Corpus, encoder: Upstream) -> dict[str, Any]:
    """Measure how good one segment by itself is, of both lengths: UA expected of one of a clip's segments at random."""
    _, maps = features(corpus, corpus.clips, encoder)
    wanted, classes = targets(corpus.split), len(corpus.split.protocol.classes)
    told = {}
    for length in ENDS:
        hits = np.zeros(len(wanted))
        source = None
        for number, fold in enumerate(corpus.split.folds, 1):
            run = corpus.runs / "segment-cnn-alone.work" / "segment-cnn" / f"cnn-{length}"
            network, saved_as = load_network(run / f"fold{number}-seed0" / "network.safetensors")
            if source is None:
                windows = segments(maps, encoder, saved_as.system)
                lengths_s = np.array([one.num_samples / one.sample_rate_hz for one in maps.speech])
                _, alone = features(corpus, parts_of(windows, corpus.clips, lengths_s, encoder.grid), encoder)
                source = EachAlone(alone, windows)
            for clip in fold.test.tolist():
                rows = source.windows.of(np.array([clip]))
                batch = Batch([source.read(rows), torch.arange(len(rows))], (), torch.zeros(len(rows)))
                with torch.no_grad():
                    answers = network(batch).argmax(-1).numpy()  # each segment is a clip of its own
                hits[clip] = (answers == wanted[clip]).mean()
        recalls = [hits[wanted == number].mean() for number in range(classes)]
        told[f"cnn-{length}"] = {"ua_of_one_segment": float(np.mean(recalls))}
        print(corpus.name, length, told[f"cnn-{length}"], flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
    given = parser.parse_args()
    encoder, banks = upstreams.load(given.upstream), upstreams.load("fbank:128")
    for name, path in (one.split("=", 1) for one in given.corpus):
        target = given.out / f"early-{name}.json"
        if target.exists():
            continue
        corpus = read(name, path, given.out)
        record = {
            "protocol": corpus.split.protocol.to_dict(),
            "early": early(corpus, encoder, banks, given.seconds),
            "single": single(corpus, encoder) if (corpus.runs / "segment-cnn-alone").exists() else {},
            "environment": describe_environment(
                seeds=[0],
                device="cpu",
                command=f"python early.py --corpus {name}=DATA/{name} --upstream {encoder.name} --out OUT --seconds "
                + " ".join(f"{t:g}" for t in given.seconds),
            ),
        }
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
