"""Small result folders for tests of reports: answers, speakers and recordings made up on the spot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from subtone.evaluation import compare, corrected, evaluate
from subtone.evaluation.results import write_json
from subtone.evaluation.slices import slices_of

LABELS = ("anger", "happiness", "sadness")
RATE = 16_000


def answers_of(
    skill: float, *, clips: int = 60, seeds: int = 2, labels: Sequence[str] = LABELS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Truth ``(clips,)`` and probabilities ``(seeds, clips, classes)``; the higher the skill, the more are right."""
    rng = np.random.default_rng(seed)
    truth = np.arange(clips) % len(labels)
    logits = rng.normal(size=(seeds, clips, len(labels)))
    logits[:, np.arange(clips), truth] += skill
    scores = np.exp(logits)
    return np.array(labels, dtype=object)[truth], scores / scores.sum(-1, keepdims=True)


def write_run(
    folder: Path,
    systems: Mapping[str, float] | None = None,
    *,
    labels: Sequence[str] = LABELS,
    clips: int = 60,
    speakers: int | None = 6,
    folds: int = 3,
    seeds: int = 2,
    files: Sequence[str] | None = None,
    seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    slices: bool = False,
) -> Path:
    """Write what `subtone recipe run` does of systems with the skills given, the first compared with each other one."""
    systems = {"gap": 0.5, "sap": 2.0} if systems is None else systems
    names = [f"clip{number:03d}.wav" for number in range(clips)] if files is None else list(files)
    who = [f"s{number % speakers}" for number in range(clips)] if speakers else None
    fold = [f"f{number % folds}" for number in range(clips)]
    index = pd.MultiIndex.from_arrays(
        [names, pd.to_timedelta([0.0] * clips, unit="s"), pd.to_timedelta([pd.NaT] * clips)],
        names=["file", "start", "end"],
    )
    found, parts, given = {}, [], {}
    for number, (name, skill) in enumerate(systems.items()):
        truth, scores = answers_of(skill, clips=clips, seeds=seeds, labels=labels, seed=seed + number)
        given[name] = scores
        found[name] = evaluate(truth, scores, labels, who, fold, resamples=200)
        for turn in range(seeds):
            part = pd.DataFrame(scores[turn], index=index, columns=list(labels))
            part.insert(0, "label", np.array(labels, dtype=object)[scores[turn].argmax(1)])
            part.insert(0, "truth", truth)
            part.insert(0, "speaker", who)
            part.insert(0, "fold", fold)
            part.insert(0, "seed", turn)
            part.insert(0, "system", name)
            parts.append(part.astype({"seed": "Int64"}))
    first, *others = systems
    tests = [
        compare(truth, given[first], given[other], labels, who, names=(first, other), resamples=200, permutations=200)
        for other in others
    ]  # fmt: skip
    table = pd.DataFrame({"gender": ["female" if number % 2 else "male" for number in range(clips)]})
    cut = {
        name: slices_of(truth, given[name], labels, table, who, resamples=100) for name in systems if slices
    }
    record = {
        "protocol": {"description": "made up · 3 folds", "corpus": "toy", **(protocol or {})},
        "systems": {name: one.to_dict(full=True) for name, one in found.items()},
        "comparisons": [one.to_dict() for one in corrected(tests)],
        **({"slices": {name: one.to_dict() for name, one in cut.items()}} if slices else {}),
        "recipe": "sap",
        **(extra or {}),
    }
    # As write_results does, without its pictures, which take most of the time and are in no report.
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", record)
    pd.concat(parts).to_parquet(folder / "predictions.parquet")
    (folder / "recipe.yaml").write_text("name: sap\ntitle: Pooling over speech\n")
    where = {"command": "subtone recipe run sap", "seeds": list(range(seeds)), "versions": {"subtone": "0.1"}}
    write_json(folder / "environment.json", where)
    return folder


def write_recordings(folder: Path, clips: int = 60, seconds: float = 0.6) -> Path:
    """Write a tone for every clip of `write_run`."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    for number in range(clips):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * time)
        soundfile.write(folder / f"clip{number:03d}.wav", tone, RATE, subtype="PCM_16")
    return folder


class Seen(HTMLParser):
    """What a page holds: its tags with attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._skip = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All words, white space made plain."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every tag of that name."""
        return [attributes for name, attributes in self.tags if name == tag]
