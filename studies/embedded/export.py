"""Write the upstream that ships, from an encoder that `finetune.py` wrote.

python export.py --encoder ENCODER --prosody FEATURES/prosody.npz --out src/subtone/upstreams/shipped/subtone-mini
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subtone import upstreams
from subtone.upstreams.mini import write_mini
from subtone.upstreams.prosody import Standardisation


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--prosody", type=Path, required=True, help="pooled features of all clips")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    network: Any = upstreams.load(given.encoder).module
    write_mini(given.out, network, standardisation(np.load(given.prosody)["x"].astype(np.float64)))


def standardisation(pooled: npt.NDArray[np.float64]) -> Standardisation:
    """Bring each number of the prosody stream to mean 0 and deviation 1 over frames of all clips, each weighed alike.

    ``pooled`` is ``(clips, 1, 4 * dim)``: means and deviations over all frames of a clip, then over speech.
    """
    means, deviations = pooled[:, 0].reshape(len(pooled), 4, -1)[:, :2].swapaxes(0, 1)  # each (clips, dim)
    scale = np.sqrt((deviations**2).mean(0) + means.var(0))
    return Standardisation(tuple(means.mean(0).round(6).tolist()), tuple(scale.round(6).tolist()))


if __name__ == "__main__":
    main()
