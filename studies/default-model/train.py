"""Train the model that ships with Subtone, measure it, write its bundle and its card.

    python studies/default-model/train.py --store STORE --out src/subtone/models/default \\
        --corpus ravdess=DATA/ravdess --corpus emodb=DATA/emodb --corpus nemo=DATA/nemo \\
        --corpus ased=DATA/ased --corpus emotale=DATA/emotale --corpus emotiontts-ko=DATA/emotiontts-ko

Measured twice: on new speakers of the same corpora (ten folds of speakers), and on corpora that the model has never
heard (leave one corpus out), where a corpus's own level, room and language are new too. The second is what a user
with recordings of their own should expect.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from subtone import bundle, corpora, protocols, upstreams
from subtone.evaluation import Evaluation, describe_environment, evaluate, soft_vote
from subtone.evaluation.calibration import apply_temperature, expected_calibration_error
from subtone.extraction import clips_of, extract
from subtone.protocols import speaker_ids
from subtone.speech import get_detector
from subtone.training import FrozenOptions, train_frozen, train_model
from subtone.training.card import write_card

LABELS = ("anger", "happiness", "neutral", "sadness")
UPSTREAM = "fbank+deltas+level"
SEEDS = (0, 1, 2, 3, 4)
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
        table, upstream, labels=LABELS, options=OPTIONS, seeds=SEEDS, store=given.store, on_clip=_tell
    )
    temperature = trained.model.temperature
    unheard, error, protocol = leave_one_corpus_out(table, given.store, temperature)
    card = write_card(
        "The model that ships with Subtone",
        protocol=trained.protocol,
        evaluation=trained.evaluation,
        calibration_error=trained.calibration_error,
        more=_unheard_section(unheard, error, protocol) + _data_section(table),
    )
    results = {
        "speakers": {"protocol": trained.protocol.to_dict(), **trained.evaluation.to_dict(full=True)},
        "corpora": {"protocol": protocol.to_dict(), **unheard.to_dict(full=True)},
        "calibration_error": {"speakers": trained.calibration_error, "corpora": error},
        "temperature": temperature,
        "environment": describe_environment(seeds=SEEDS, command=_command(named), device="cpu"),
    }
    bundle.save(replace(trained.model, card=card), given.out, overwrite=True)
    target = Path(__file__).parent / "results.json"
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(trained.evaluation.sentence())
    print("leave one corpus out:", unheard.sentence())


def leave_one_corpus_out(
    table: pd.DataFrame, store: Path, temperature: float
) -> tuple[Evaluation, float, protocols.Protocol]:
    """Test on each corpus a model of all the others."""
    found = extract(clips_of(table), upstreams.load(UPSTREAM), get_detector(), store=store)
    table = table.iloc[found.rows].assign(position=np.arange(len(found.rows)))
    split = protocols.build(table, "leave-one-corpus-out", classes=LABELS, leaks=("speaker",))
    features = found.features.select(split.table["position"].to_numpy(np.int64))
    targets = np.array([LABELS.index(e) for e in split.table["emotion"]])
    x = features.matrix(("gap_mean", "gap_std", "sap_mean", "sap_std"))
    run = train_frozen(x, targets, split.folds, SEEDS, len(LABELS), OPTIONS)
    vote = soft_vote(apply_temperature(run.logits, temperature))
    folds = split.table["corpus"].tolist()
    truth = [LABELS[t] for t in targets]
    evaluation = evaluate(truth, vote, LABELS, speaker_ids(split.table), folds)
    return evaluation, expected_calibration_error(vote, targets), split.protocol


def _unheard_section(evaluation: Evaluation, error: float, protocol: protocols.Protocol) -> str:
    rows = "\n".join(f"| {f.name} | {f.n} | {100 * f.ua:.1f} | {100 * f.wa:.1f} |" for f in evaluation.folds)
    mean = 100 * np.mean([f.ua for f in evaluation.folds])
    low, high = evaluation.ua_ci
    return f"""## What it reached on corpora that it had not heard

{protocol.describe()}

UA over all clips **{100 * evaluation.ua:.1f} %** (95 % interval over speakers {100 * low:.1f} to {100 * high:.1f}),
mean over corpora **{mean:.1f} %**; guessing gives 25. Expected calibration error {100 * error:.1f} points: on unheard
corpora its scores are too sure.

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


def _tell(done: int, total: int, _seconds: float) -> None:
    if done % 500 == 0 or done == total:
        print(f"{done} of {total} clips", flush=True)


if __name__ == "__main__":
    main()
