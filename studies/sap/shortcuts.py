"""Is a sentence that classes are said to share the same words in all of them? Told by ear of an upstream.

    python shortcuts.py --corpus ravdess=DATA/ravdess --corpus ased=DATA/ased --upstream LABEL=FOLDER --out OUT

Two sentences are told apart by logistic regression on the last layer's mean, learned in one class on half of the
speakers and tested in each class on the other half. Where the words are the same in all classes, what was learned in
one holds in the others, as on RAVDESS, whose two statements are; where it falls to chance (0.5), they are not.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch

import json

import numpy as np
import numpy.typing as npt
from anchors import add_upstreams, probe, upstreams_of
from protocols import arguments, chosen, folders_of

from subtone import upstreams
from subtone.extraction import clips_of, extract
from subtone.speech import get_detector

STUDIES = ("ravdess", "ased-06-07")


def transfer(
    x: npt.NDArray[np.float32],
    sentence: npt.NDArray[np.str_],
    emotion: npt.NDArray[np.str_],
    speaker: npt.NDArray[np.str_],
) -> dict[str, float]:
    """Accuracy of telling two sentences apart: within the class learned in, and in the others.

    Parameters
    ----------
    x
        ``(clips, dim)`` features.
    sentence, emotion, speaker
        ``(clips,)``.

    Returns
    -------
    dict
        ``within``, ``across`` (means over classes and pairs of classes), ``across_min``, ``across_max``; 0..1.
    """
    learned = np.isin(speaker, np.unique(speaker)[::2])
    classes = np.unique(emotion)
    hits = np.empty((len(classes), len(classes)))  # (learned in, tested in)
    for i, a in enumerate(classes):
        rows = learned & (emotion == a)
        model = probe(C=0.1).fit(x[rows], sentence[rows])
        for j, b in enumerate(classes):
            rows = ~learned & (emotion == b)
            hits[i, j] = (model.predict(x[rows]) == sentence[rows]).mean()
    others = hits[~np.eye(len(classes), dtype=bool)]
    return {
        "within": float(hits.diagonal().mean()),
        "across": float(others.mean()),
        "across_min": float(others.min()),
        "across_max": float(others.max()),
    }


def main() -> None:
    parser = arguments("Are shared sentences shared?")
    add_upstreams(parser)
    options = parser.parse_args()
    found = {}
    for label, source in upstreams_of(options.upstream):
        upstream = upstreams.load(source)
        for study, corpus in chosen(folders_of(options.corpus), options.only or list(STUDIES)):
            table = study.split(corpus, options.out).table
            store = options.out / "stores" / label
            features = extract(clips_of(table), upstream, get_detector("silero"), store=store).features
            columns = [table[name].to_numpy(str) for name in ("sentence", "emotion", "speaker")]
            found[f"{study.name}, {label}"] = transfer(features.matrix(("gap_mean",))[:, -1], *columns)
    text = json.dumps(found, indent=2)
    (options.out / "shortcuts.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
