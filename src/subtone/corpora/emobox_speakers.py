"""Who speaks in the clips that EmoBox lists, read off the paths; the lists themselves do not say.

Only corpora whose paths give the number of speakers that the benchmark prints (eNTERFACE lacks one).
"""

from __future__ import annotations

import re

# Corpus -> pattern in the path without extension; the groups joined are the speaker.
_PATTERNS: dict[str, str] = {
    "ased": r"-(\d+)$",
    "asvpesd": r"/actor_(\d+)/",
    "cafe": r"/(\d\d)-[^/]*$",
    "casia": r"/([^/]+)/[^/]+/[^/]+$",
    "cremad": r"/(\d{4})_[^/]*$",
    "emodb": r"/(\d\d)[^/]*$",
    "emovdb": r"/([a-z]+)_[^/]+/[^/]*$",
    "emovo": r"-([fm]\d)-[^/]*$",
    "enterface": r"/subject (\d+)/",
    "esd": r"/(\d{4})_\d+$",
    "iemocap": r"/(Ses\d\d)[FM]_[^/]*_([FM])\d+$",
    "jlcorpus": r"/((?:fe)?male\d)_[^/]*$",
    "oreau": r"/(\d\d)[^/]*$",
    "polish": r"/([^/.]+)\.[^/]*$",
    "ravdess": r"-(\d\d)$",
    "savee": r"/([A-Z]{2})_[^/]*$",
    "shemo": r"/([FM]\d\d)[A-Z]\d+$",
    "subesco": r"/([FM]_\d\d)_[^/]*$",
    "tess": r"/(OAF|YAF)_[^/]*$",
    "urdu": r"/(S[FM]\d+)_[^/]*$",
}


def speaker_of(corpus: str, wav: str) -> str | None:
    """Read the speaker off a path of a list.

    Parameters
    ----------
    corpus
        EmoBox's name.
    wav
        ``downloads/<corpus>/…``.

    Returns
    -------
    str or None
        Unique in the corpus; None where the path does not tell.

    Examples
    --------
    >>> speaker_of("iemocap", "downloads/iemocap/x/Ses01F_impro01_M003.wav")
    'Ses01M'
    """
    found = re.search(_PATTERNS[corpus], wav.rpartition(".")[0]) if corpus in _PATTERNS else None
    return "".join(found.groups()) if found else None
