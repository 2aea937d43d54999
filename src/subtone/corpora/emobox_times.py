"""Where clips lie in PAVOQUE's long recordings: a YAML file of the corpus beside each of them.

EmoBox's own list has these times; its table of names, labels and folds has not.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from subtone.errors import CorpusError

# The compiled loader where PyYAML has it: some thousand clips in a file. Both make plain data only.
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def segments_beside(audio: Path, corpus: str) -> dict[str, tuple[float, float]]:
    """Read the file of clips beside a recording.

    Parameters
    ----------
    audio
        The recording, e.g. ``pavoque-neutral.flac``; the clips are in ``pavoque-neutral.yaml``, a list with
        ``prompt``, ``style``, ``start`` and ``end``.
    corpus
        Name that the keys begin with.

    Returns
    -------
    dict
        Key of a list (``pavoque-a0001-neutral``) → start and end in seconds; empty where there is no such
        file.

    Raises
    ------
    CorpusError
        If the file holds something else.
    """
    path = audio.with_suffix(".yaml")
    if not path.is_file():
        return {}
    try:
        clips = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
        return {
            f"{corpus}-{clip['prompt']}-{clip['style']}": (float(clip["start"]), float(clip["end"]))
            for clip in clips
        }
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise CorpusError(
            f"corpus {corpus!r}: {path}: is no list of clips with prompt, style, start and end ({error})"
        ) from error
