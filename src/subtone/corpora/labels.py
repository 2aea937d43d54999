"""The spellings of emotions, genders and parts that people and benchmarks use, onto the closed vocabulary.

One table for all readers that meet foreign labels: manifests, audformat databases, EmoBox lists. What is not
in it is an error that names the nearest spelling, never a guess.
"""

from __future__ import annotations

from subtone.corpora.base import Gender
from subtone.errors import nearest

# Class -> spellings. Nouns, adjectives and the three-letter codes of the field.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "anger": ("angry", "ang", "mad"),
    "happiness": (
        "happy",
        "hap",
        "joy",
        "joyful",
        # EmoV-DB's amusement is laughing speech: the one positive class of that corpus.
        "amused",
        "amusement",
    ),
    "sadness": ("sad",),
    "neutral": ("neu", "neutrality"),
    "fear": ("fearful", "fea", "afraid", "scared"),
    "disgust": ("disgusted", "dis", "disqust"),
    "surprise": ("surprised", "sur", "pleasant surprise", "ps"),
    "boredom": ("bored", "boredem", "bor"),
    "calm": ("calmness",),
    "contempt": ("contemptuous", "con"),
    # Excitement is a class of its own; only the four-class task of IEMOCAP counts it as happiness.
    "excitement": ("excited", "exc"),
    "frustration": ("frustrated", "fru"),
    # Classes of single corpora that are none of ours. Worry, anxiety and concern are not fear, enthusiasm is
    # neither happiness nor excitement by its authors' own lists, and a style of speaking (sarcastic, poker)
    # is no emotion.
    "other": (
        "oth",
        "anxious",  # JL corpus, with the four below
        "apologetic",
        "assertive",
        "concerned",
        "encouraging",
        "enthusiasm",  # RESD
        "enthusiastic",
        "worried",  # MER 2023
        "sarcastic",  # EMNS
        "sleepy",  # EmoV-DB
        "sleepiness",
        "poker",  # PAVOQUE
        "pain, groan",  # ASVP-ESD, with the three below
        "pleasure",
        "disappointment, disapproval",
        "breath",
    ),
}
# Spellings that say that there is no label.
NO_LABEL = frozenset({"", "unknown", "no agreement", "xxx", "nan", "none", "<na>", "null", "n/a", "na"})

ALIASES: dict[str, str] = {
    spelling: emotion for emotion, spellings in _SPELLINGS.items() for spelling in (emotion, *spellings)
}
"""Lower-case spelling → emotion of the closed vocabulary."""

_GENDERS: dict[str, Gender] = {
    "f": "female",
    "female": "female",
    "w": "female",
    "woman": "female",
    "m": "male",
    "male": "male",
    "man": "male",
}
_SPLITS: dict[str, str] = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "devel": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}


def emotion_of(label: str) -> str | None:
    """Map a spelling onto the closed vocabulary.

    Parameters
    ----------
    label
        Any case, blanks at the ends allowed.

    Returns
    -------
    str or None
        The emotion, or None for spellings that say that there is no label (:data:`NO_LABEL`).

    Raises
    ------
    ValueError
        If nobody knows the spelling; the message names the nearest one.

    Examples
    --------
    >>> emotion_of("Angry"), emotion_of("hap"), emotion_of("xxx")
    ('anger', 'happiness', None)
    >>> emotion_of("angr")
    Traceback (most recent call last):
    ValueError: unknown emotion 'angr'; did you mean 'angry'?
    """
    key = " ".join(label.lower().split())
    if key in NO_LABEL:
        return None
    if key not in ALIASES:
        raise ValueError(f"unknown emotion {label!r}; {nearest(key, ALIASES)}")
    return ALIASES[key]


def gender_of(value: str) -> Gender | None:
    """Map a spelling of a gender; nothing, ``unknown`` and ``other`` are None.

    Raises
    ------
    ValueError
        If nobody knows the spelling.

    Examples
    --------
    >>> gender_of("F"), gender_of("Unknown")
    ('female', None)
    """
    key = value.strip().lower()
    if key in NO_LABEL or key == "other":
        return None
    if key not in _GENDERS:
        raise ValueError(f"unknown gender {value!r}; {nearest(key, _GENDERS)}")
    return _GENDERS[key]


def split_of(value: str) -> str | None:
    """Map a spelling of a corpus's part onto ``train``, ``dev`` or ``test``; nothing is None.

    Raises
    ------
    ValueError
        If nobody knows the spelling.

    Examples
    --------
    >>> split_of("Validation")
    'dev'
    """
    key = value.strip().lower()
    if key in NO_LABEL:
        return None
    if key not in _SPLITS:
        raise ValueError(f"unknown part {value!r}; {nearest(key, _SPLITS)}")
    return _SPLITS[key]
