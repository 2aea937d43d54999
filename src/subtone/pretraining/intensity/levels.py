"""What corpora say of intensity, brought to [0, 1]: the targets of the intensity model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

WORDS = {
    "low": 0.0,
    "neutral": 0.5,  # BAVED: the everyday level, between low and high
    "normal": 0.5,
    "medium": 0.5,
    "moderate": 0.5,
    "high": 1.0,
    "strong": 1.0,
}
"""A corpus's word for its intensity → level."""

AROUSAL_SCALES = {
    "emotale": (1.0, 5.0),
    "iemocap": (1.0, 5.0),
    "kemdy19": (1.0, 5.0),
    "msp-improv": (1.0, 5.0),
    "msp-podcast": (1.0, 7.0),
}
"""Corpus → lowest and highest rating of arousal that its raters could give."""


def levels_of(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return each clip's level of intensity in [0, 1], NaN where its corpus says none.

    In this order: a clip labelled neutral, in a corpus that has levels in words, is 0 whatever else is said (RAVDESS
    calls its neutral clips "normal", CREMA-D and CaFE give them no level); the column ``intensity`` by `WORDS`; the
    column ``arousal`` by `AROUSAL_SCALES`. Levels of different corpora are made to cover one range, not to mean the
    same; training compares clips of a speaker.

    Parameters
    ----------
    table
        As corpus readers give it: columns ``corpus``, ``emotion``, ``intensity``, ``arousal``.

    Returns
    -------
    ndarray
        ``(rows,)`` float64.

    Examples
    --------
    >>> levels_of(pd.DataFrame({
    ...     "corpus": ["ravdess", "ravdess", "emotale", "nemo"], "emotion": ["neutral", "fear", "anger", "anger"],
    ...     "intensity": ["normal", "strong", None, None], "arousal": [None, None, 4.0, None],
    ... })).tolist()
    [0.0, 1.0, 0.75, nan]
    """
    levels = []
    corpora, emotions, intensities, arousals = (
        table[name].to_numpy(object) for name in ("corpus", "emotion", "intensity", "arousal")
    )
    words = [None if pd.isna(given) else WORDS.get(str(given).lower()) for given in intensities]
    graded = {corpus for corpus, word in zip(corpora, words) if word is not None}
    for corpus, emotion, word, arousal in zip(corpora, emotions, words, arousals):
        scale = AROUSAL_SCALES.get(str(corpus))
        if corpus in graded and not pd.isna(emotion) and emotion == "neutral":
            levels.append(0.0)
        elif word is not None:
            levels.append(word)
        elif scale is not None and not pd.isna(arousal):
            levels.append((float(arousal) - scale[0]) / (scale[1] - scale[0]))
        else:
            levels.append(np.nan)
    return np.array(levels, np.float64)
