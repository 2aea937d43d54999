"""Train the model that ships with Subtone, measure it, write its bundle and its card.

    python studies/default-model/train.py --store STORE --out src/subtone/models/default \\
        --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb --corpus nemo=DATA/nemo \\
        --corpus ased=DATA/ased --corpus emotale=DATA/emotale --corpus emotiontts-ko=DATA/emotiontts-ko

Measured twice: on new speakers of the same corpora (ten folds of speakers), and on corpora that the model has never
heard (leave one corpus out), where a corpus's own level, room and language are new too. The second is what a user
with recordings of their own should expect, so the temperature of the scores is fitted there: a model is less sure of
itself on corpora that it has not heard.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from subtone import bundle, corpora, protocols, upstreams
from subtone.evaluation import Evaluation, describe_environment, evaluate, soft_vote
from subtone.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from subtone.extraction import Progress, clips_of, extract
from subtone.pooling import statistics_of
from subtone.protocols import speaker_ids
from subtone.speech import get_detector
from subtone.training import FrozenOptions, train_frozen, train_model
from subtone.training.card import write_card

LABELS = ("anger", "happiness", "neutral", "sadness")
UPSTREAM = "fbank+deltas+level"
SEEDS = (0, 1, 2, 3, 4)
# Speech alone: recordings of users hold more silence than the clips of a corpus, and averaging over it moved answers.
POOLING = "sap"
OPTIONS = FrozenOptions(components=256)


def main() -> None:
    """Read, train, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--store", type=Path, required=True, help="features are kept here")
    parser.add_argument("--out", type=Path, required=True, help="the bundle")
    given = parser.parse_args()
    named = dict(entry.split("=", 1) for entry in given.corpus)
    table = pd.concat([corpora.read(name, path) for name, path in named.items()])
    table = table[table["emotion"].isin(LABELS).fillna(False).to_numpy(bool)]
    upstream = upstreams.load(UPSTREAM)
    trained = train_model(
        table,
        upstream,
        labels=LABELS,
        pooling=POOLING,
        options=OPTIONS,
        seeds=SEEDS,
        store=given.store,
        on_progress=_tell,
    )
    unheard = leave_one_corpus_out(table, given.store)
    card = write_card(
        "The model that ships with Subtone",
        protocol=trained.protocol,
        evaluation=trained.evaluation,
        calibration_error=trained.calibration_error,
        more=_unheard_section(unheard) + _data_section(table),
    )
    results = {
        "speakers": {"protocol": trained.protocol.to_dict(), **trained.evaluation.to_dict(full=True)},
        "corpora": {"protocol": unheard.protocol.to_dict(), **unheard.evaluation.to_dict(full=True)},
        "calibration_error": {
            "speakers": trained.calibration_error,
            "corpora": unheard.calibration_error,
            "corpora_at_speakers_temperature": unheard.overconfident_error,
        },
        "temperature": {"speakers": trained.model.temperature, "corpora": unheard.temperature},
        "environment": describe_environment(seeds=SEEDS, command=_command(named), device="cpu"),
    }
    model = replace(trained.model, card=card, temperature=unheard.temperature)
    bundle.save(model, given.out, overwrite=True)
    target = Path(__file__).parent / "results.json"
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(trained.evaluation.sentence())
    print("leave one corpus out:", unheard.evaluation.sentence())


@dataclass(frozen=True)
class Unheard:
    """What the model's kind reached on corpora that it had not heard."""

    evaluation: Evaluation
    protocol: protocols.Protocol
    temperature: float
    calibration_error: float
    overconfident_error: float


def leave_one_corpus_out(table: pd.DataFrame, store: Path) -> Unheard:
    """Test on each corpus a model of all the others."""
    found = extract(clips_of(table), upstreams.load(UPSTREAM), get_detector(), store=store)
    table = table.iloc[found.rows].assign(position=np.arange(len(found.rows)))
    split = protocols.build(table, "leave-one-corpus-out", classes=LABELS)
    features = found.features.select(split.table["position"].to_numpy(np.int64))
    targets = np.array([LABELS.index(e) for e in split.table["emotion"]])
    x = features.matrix(statistics_of(POOLING, std=True))
    run = train_frozen(x, targets, split.folds, SEEDS, len(LABELS), OPTIONS)
    corpus = split.table["corpus"].to_numpy(str)
    # A corpus's own scores are calibrated by the others', as those of a new one would be.
    vote = np.empty(run.logits.shape[1:])
    for name in np.unique(corpus):
        others = _temperature(run.logits[:, corpus != name], targets[corpus != name])
        vote[corpus == name] = soft_vote(apply_temperature(run.logits[:, corpus == name], others))
    held = ~np.isnan(run.dev_logits).any(axis=(0, 2))
    within = _temperature(run.dev_logits[:, held], targets[held])
    sure = soft_vote(apply_temperature(run.logits, within))
    truth = [LABELS[t] for t in targets]
    return Unheard(
        evaluate(truth, vote, LABELS, speaker_ids(split.table), list(corpus)),
        split.protocol,
        _temperature(run.logits, targets),
        expected_calibration_error(vote, targets),
        expected_calibration_error(sure, targets),
    )


def _temperature(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> float:
    """One temperature for all seeds of ``(seeds, clips, classes)``."""
    return fit_temperature(logits.reshape(-1, logits.shape[-1]), np.tile(targets, len(logits)))


def _unheard_section(unheard: Unheard) -> str:
    evaluation = unheard.evaluation
    rows = "\n".join(f"| {f.name} | {f.n} | {100 * f.ua:.1f} | {100 * f.wa:.1f} |" for f in evaluation.folds)
    mean = 100 * np.mean([f.ua for f in evaluation.folds])
    low, high = evaluation.ua_ci
    return f"""## What it reached on corpora that it had not heard

{unheard.protocol.describe()}

UA over all clips **{100 * evaluation.ua:.1f} %** (95 % interval over speakers {100 * low:.1f} to {100 * high:.1f}),
mean over corpora **{mean:.1f} %**; guessing gives 25. Expected calibration error {100 * unheard.calibration_error:.1f}
points at a temperature fitted on the other corpora, which is how the scores of this model are made
({100 * unheard.overconfident_error:.1f} points at the temperature of known corpora).

| corpus left out | clips | UA % | WA % |
|---|---|---|---|
{rows}

Expect this, not the figure above, on recordings of your own.

"""


def _data_section(table: pd.DataFrame) -> str:
    rows = "\n".join(
        f"| {corpora.get(str(name)).title} | {', '.join(sorted(set(part['language'].dropna())))} | {len(part)} | "
        f"{part['speaker'].nunique()} | {corpora.get(str(name)).licence} |"
        for name, part in table.groupby("corpus")
    )
    return f"""## Data

| corpus | language | clips | speakers | licence |
|---|---|---|---|---|
{rows}

No audio is in this package. The licences of some corpora allow research only or exclude commercial use: whether that
binds a model trained on them is yours to judge before you sell what it says.
"""


def _command(named: dict[str, str]) -> str:
    given = " ".join(f"--corpus {name}=PATH" for name in named)
    return f"python studies/default-model/train.py --store STORE --out src/subtone/models/default {given}"


def _tell(state: Progress) -> None:
    if state.done % 500 == 0 or state.done == state.total:
        print(state.sentence(), flush=True)


if __name__ == "__main__":
    main()
