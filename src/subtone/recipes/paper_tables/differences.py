"""How a figure was got, ours or a paper's, and in what two such ways differ, in words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fnmatch import fnmatch
from typing import Literal

Tuned = Literal["frozen", "fine-tuned"]
Layers = Literal["the last", "a learned mix of all", "all, side by side"]

#: What a fold of each kind holds out.
_FOLDS = {
    "leave-one-speaker-out": "one speaker each",
    "leave-one-session-out": "one session each",
    "leave-one-sentence-out": "one sentence each",
    "leave-one-corpus-out": "one corpus each",
    "group-k-fold": "several speakers each",
    "random-k-fold": "clips at random",
    "fixed": "given lists",
    "emobox": "EmoBox's lists",
}
_DEV = {
    "speakers": "training speakers",
    "random": "training clips at random",
    "session": "one training session",
    "partner": "the other speaker of the session",
    "none": "none",
    "listed": "as listed",
}
#: Between upstreams that are joined.
AND = " + "
_SHARED = ("speakers", "random")  # rules that take a share
#: Field → what it is called where it is not known of a paper.
_NAMES = {
    "classes": "classes",
    "clips": "number of clips",
    "speakers": "number of speakers",
    "folds": "folds",
    "num_folds": "number of folds",
    "dev": "development rule",
    "speaker_dependent": "whether speakers are kept apart",
    "upstream": "upstream",
    "tuned": "whether it is fine-tuned",
    "layers": "layers",
    "size": "size of the network",
    "pretrained_on": "what it was pre-trained on",
    "pretraining_steps": "steps of pre-training",
}


@dataclass(frozen=True)
class Setup:
    """How a figure was got. None is what is not known, or what does not apply to ours.

    Parameters
    ----------
    corpus
        Subtone's name of it.
    classes, clips, speakers
        What was tested.
    folds, num_folds
        Kind, as protocols have it, and how many.
    dev, dev_share
        Rule, as protocols have it, and share.
    speaker_dependent
        Whether test speakers were heard in training.
    upstream, models
        In words; and, of a paper's, patterns that the names of models match that are the same.
    tuned, layers
        What was done with the upstream.
    size, pretrained_on, pretraining_steps
        Of one that was pre-trained for the figure.
    remarks
        Of ours: what a reader must be told whatever the paper did.
    """

    corpus: str
    classes: tuple[str, ...] | None = None
    clips: int | None = None
    speakers: int | None = None
    folds: str | None = None
    num_folds: int | None = None
    dev: str | None = None
    dev_share: float | None = None
    speaker_dependent: bool | None = None
    upstream: str | None = None
    models: tuple[str, ...] = ()
    tuned: Tuned | None = None
    layers: str | None = None
    size: str | None = None
    pretrained_on: str | None = None
    pretraining_steps: int | None = None
    remarks: tuple[str, ...] = ()


def is_model(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether an upstream's name, or the last part of its path, matches one of some patterns.

    >>> is_model("facebook/HuBERT-base-ls960", ("hubert-base*",)), is_model("/models/distilhubert", ("hubert*",))
    (True, False)
    """
    own = name.rstrip("/").rpartition("/")[2].lower()
    return any(fnmatch(own, pattern.lower()) for pattern in patterns)


def differences(ours: Setup, published: Setup) -> tuple[str, ...]:
    """Return in words all in which ours is known to differ from a published one; ours first in each.

    >>> differences(Setup("ravdess", clips=1440), Setup("iemocap", clips=5531))
    ('other corpus: ravdess, not iemocap', '1,440 clips, not 5,531')
    """
    told = list(ours.remarks)
    if ours.corpus != published.corpus:
        told.append(f"other corpus: {ours.corpus}, not {published.corpus}")
    told += _classes(ours, published)
    for field, unit in (("clips", "clips"), ("speakers", "speakers")):
        told += _differ(getattr(ours, field), getattr(published, field), "{:,} " + unit, "{:,}")
    told += _folds(ours, published)
    told += _development(ours, published)
    if ours.speaker_dependent and published.speaker_dependent is False:
        told.append("test speakers are heard in training, the paper's are not")
    if published.speaker_dependent and ours.speaker_dependent is False:
        told.append("test speakers are not heard in training, the paper's are")
    told += _upstreams(ours, published)
    for field, text in (
        ("tuned", "upstream {}"),
        ("layers", "layers: {}"),
        ("size", "size {}"),
        ("pretrained_on", "pre-trained on {}"),
    ):
        told += _differ(getattr(ours, field), getattr(published, field), text)
    told += _differ(ours.pretraining_steps, published.pretraining_steps, "{:,} steps of pre-training", "{:,}")
    return tuple(told)


def not_known(ours: Setup, published: Setup) -> tuple[str, ...]:
    """Return what is known of ours and not of the published, by name."""
    return tuple(
        _NAMES[field.name]
        for field in fields(Setup)
        if field.name in _NAMES
        and getattr(ours, field.name) is not None
        and getattr(published, field.name) is None
    )


def in_words(ours: Setup, published: Setup) -> str:
    """Return the cell of a table: all differences, then what cannot be told; ``"same"`` if there are none of either.

    >>> in_words(Setup("emodb", clips=535), Setup("emodb", clips=535))
    'same'
    >>> in_words(Setup("emodb", clips=535), Setup("emodb"))
    'same as far as is known; not found of the paper: number of clips'
    """
    told, unknown = differences(ours, published), not_known(ours, published)
    gaps = f"not found of the paper: {', '.join(unknown)}" if unknown else ""
    if told:
        return "; ".join([*told, gaps] if gaps else told)
    return f"same as far as is known; {gaps}" if gaps else "same"


def _differ(ours: object, published: object, text: str, other: str = "{}") -> list[str]:
    if ours is None or published is None or ours == published:
        return []
    return [f"{text.format(ours)}, not {other.format(published)}"]


def _classes(ours: Setup, published: Setup) -> list[str]:
    if ours.classes is None or published.classes is None or set(ours.classes) == set(published.classes):
        return []
    if len(ours.classes) != len(published.classes):
        return [f"{len(ours.classes)} classes, not {len(published.classes)}"]
    return [f"classes {', '.join(ours.classes)}, not {', '.join(published.classes)}"]


def _folds(ours: Setup, published: Setup) -> list[str]:
    mine, theirs = _folds_text(ours), _folds_text(published)
    if published.folds is None:
        return _differ(ours.num_folds, published.num_folds, "{} folds")
    if ours.folds == published.folds:
        return _differ(ours.num_folds, published.num_folds, "{} " + f"folds of {_FOLDS[published.folds]}")
    return _differ(mine, theirs, "{}")


def _folds_text(setup: Setup) -> str | None:
    if setup.folds is None:
        return None
    number = "" if setup.num_folds is None else f"{setup.num_folds} "
    return f"{number}folds of {_FOLDS.get(setup.folds, setup.folds)}"


def _development(ours: Setup, published: Setup) -> list[str]:
    return _differ(_dev_text(ours), _dev_text(published), "development: {}")


def _dev_text(setup: Setup) -> str | None:
    if setup.dev is None:
        return None
    rule = _DEV.get(setup.dev, setup.dev)
    if setup.dev not in _SHARED or setup.dev_share is None:
        return rule
    return f"{100 * setup.dev_share:g} % of {rule}"


def _upstreams(ours: Setup, published: Setup) -> list[str]:
    if ours.upstream is None or published.upstream is None:
        return []
    joined = ours.upstream.split(AND)
    if len(joined) == len(published.upstream.split(AND)) and all(
        is_model(one, published.models) for one in joined
    ):
        return []
    return _differ(ours.upstream, published.upstream, "upstream {}")
