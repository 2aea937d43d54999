"""How much silence around a clip, the gain of the recording, or telephone bandwidth moves the answers of a model.

    python studies/embedded/surroundings.py --corpus emodb=PATH [--model default] [--every 6]

Read only the drops: a model may have been trained on the corpus. What the model makes of corpora that it has not heard,
over a telephone and in noise, is in its card.
"""

from __future__ import annotations

import argparse

import numpy as np
import soxr

import subtone
from subtone.evaluation import evaluate


def main() -> None:
    """Predict each clip as it is, inside ten seconds of silence, ten times quieter, and at 8 kHz."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, metavar="NAME=PATH")
    parser.add_argument("--model", default="default")
    parser.add_argument("--every", type=int, default=6, help="take every n-th clip")
    given = parser.parse_args()
    name, path = given.corpus.split("=", 1)
    model = subtone.load(given.model)
    table = subtone.corpora.read(name, path)
    table = table[table["emotion"].isin(model.labels).fillna(False).to_numpy(bool)].iloc[:: given.every]
    waves = [subtone.load_audio(file) for file in table.index.get_level_values("file")]
    silence = np.zeros(80_000, np.float32)
    changed = {
        "as it is": waves,
        "5 s of silence at both ends": [np.concatenate([silence, wave, silence]) for wave in waves],
        "a tenth of the amplitude": [0.1 * wave for wave in waves],
        "8 kHz": [subtone.load_audio((soxr.resample(wave, 16_000, 8_000), 8_000)) for wave in waves],
    }
    for title, versions in changed.items():
        scores = np.concatenate([model.score([wave]).probabilities for wave in versions])
        found = evaluate(table["emotion"].tolist(), scores, model.labels, table["speaker"].tolist())
        print(f"{title}: {found.sentence()}")


if __name__ == "__main__":
    main()
