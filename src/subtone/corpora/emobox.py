"""EmoBox: a benchmark's lists of clips, labels and folds for some thirty corpora.

Reads the project's own tree (``data/<corpus>/<corpus>.jsonl``, ``fold_k/…``, ``label_map.json``) and the same
facts as one table a corpus (``<corpus>.csv.gz``: key, wav, label, emotion, fold_k). The lists name files, not
speakers, words or ratings: what a corpus's own reader gives beyond them it gives better, and
:func:`read_folds` goes with any reader.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from subtone.corpora.base import Corpus, Published, Reading, Row
from subtone.corpora.emobox_lists import Entry, find_list, read_list
from subtone.corpora.emobox_speakers import speaker_of
from subtone.corpora.emobox_times import segments_beside
from subtone.corpora.labels import emotion_of
from subtone.corpora.names import walk
from subtone.corpora.resolve import resolve, short_names
from subtone.errors import CorpusError

NAME = "emobox"

# The one language of a corpus; absent where a corpus mixes them (ASVP-ESD, ESD).
LANGUAGES: dict[str, str] = {
    "aesdd": "el",
    "ased": "am",
    "cafe": "fr",
    "casia": "zh",
    "cremad": "en",
    "emns": "en",
    "emodb": "de",
    "emovdb": "en",
    "emovo": "it",
    "emozionalmente": "it",
    "enterface": "en",
    "iemocap": "en",
    "jlcorpus": "en",
    "m3ed": "zh",
    "mead": "en",
    "meld": "en",
    "mer2023": "zh",
    "mesd": "es",
    "msppodcast": "en",
    "oreau": "fr",
    "pavoque": "de",
    "polish": "pl",
    "ravdess": "en",
    "resd": "ru",
    "savee": "en",
    "shemo": "fa",
    "subesco": "bn",
    "tess": "en",
    "turevdb": "tr",
    "urdu": "ur",
}
# Where the lists differ from :mod:`subtone.corpora.labels`: EMOVO's label map is left as its Italian codes,
# and excitement is a class of IEMOCAP's only (EmoBox has merged it there), so that of others is none of ours.
_EXCITED = {"Excited": "other"}
CODES: dict[str, dict[str, str]] = {
    "asvpesd": _EXCITED,
    "emns": _EXCITED,
    "jlcorpus": _EXCITED,
    "emovo": {
        "dis": "disgust",
        "gio": "happiness",
        "neu": "neutral",
        "pau": "fear",
        "rab": "anger",
        "sor": "surprise",
        "tri": "sadness",
    },
}
_SIDES = {"train": "train", "valid": "dev", "test": "test"}


def read(
    path: Path,
    *,
    corpus: str | None = None,
    lists: str | Path | None = None,
    audio: str | Path | None = None,
    fold: int | None = None,
    skip_missing: bool = False,
) -> Reading:
    """Read a corpus as EmoBox lists it; see :meth:`subtone.corpora.base.Corpus.read`.

    The list's path ``downloads/<corpus>/…`` is matched to the user's files by stem, whatever the extension;
    where a stem occurs more than once the folders decide. Labels are brought onto the closed vocabulary. The
    column ``corpus`` is that of the list.

    Parameters
    ----------
    path
        A list (``emodb.csv.gz``, ``emodb.jsonl``), a folder of lists (EmoBox's checkout, its ``data``, or one
        corpus in it), or, with ``lists``, the folder of the audio.
    corpus
        Which one, where the folder holds lists of several.
    lists
        Where the lists are; None says that they are at ``path``.
    audio
        Where the recordings are; None says at ``path`` if ``lists`` is given, else beside the lists.
    fold
        Fold (from 1) that fills the column ``split``; None fills it for corpora of one fold only.
    skip_missing
        Leave clips out whose file is not there (they are listed in ``missing``); else they are an error.

    Returns
    -------
    Reading
        A row for each clip of the list.

    Raises
    ------
    CorpusError
        If there is no list or more than one, a label that nobody knows, a clip without a file, or a list that
        cuts clips out of longer files without saying where.
    """
    source = find_list(Path(lists) if lists is not None else path, corpus)
    listing = read_list(source)
    root = Path(audio) if audio is not None else (path if lists is not None else _beside(source.path))
    if not root.is_dir():
        raise CorpusError(f"corpus {NAME!r}: {root}: no such folder of recordings; give it as audio=…")
    number_of_folds = len(listing.folds.columns)
    if fold is not None and not 1 <= fold <= number_of_folds:
        raise CorpusError(f"corpus {NAME!r}: {source.corpus} has folds 1 to {number_of_folds}, not {fold}")
    column = f"fold_{fold}" if fold is not None else ("fold_1" if number_of_folds == 1 else None)
    sides = listing.folds[column].tolist() if column is not None else [None] * len(listing.entries)
    places = _places(listing.entries, root, source.corpus)
    codes = CODES.get(source.corpus, {})
    times: dict[Path, dict[str, tuple[float, float]]] = {}
    reading = Reading()
    for entry, side in zip(listing.entries, sides):
        where = f"corpus {NAME!r}: {source.path}: {entry.key}"
        try:
            emotion = codes.get(entry.emotion) or emotion_of(entry.emotion)
        except ValueError as error:
            raise CorpusError(f"{where}: {error}; correct the list or its label map") from None
        if entry.key not in places:
            reading.missing.append((entry.wav, entry.key))
            continue
        file, whole = places[entry.key]
        start_s, end_s = (entry.start_s or 0.0, entry.end_s) if whole else (0.0, None)
        if whole and entry.shares_file and entry.start_s is None:
            if file not in times:
                times[file] = segments_beside(file, source.corpus)
            if entry.key not in times[file]:
                raise CorpusError(
                    f"{where}: {file.name} holds many clips and neither this list nor a .yaml beside it "
                    "says where this one is; put the corpus's .yaml there, cut the clips into files named "
                    "by their keys, or use EmoBox's own .jsonl, which has the times"
                )
            start_s, end_s = times[file][entry.key]
        reading.rows.append(
            Row(
                file=file,
                emotion=emotion,
                raw=entry.label,
                speaker=speaker_of(source.corpus, entry.wav),
                language=LANGUAGES.get(source.corpus),
                split=None if pd.isna(side) else _SIDES[side],
                start_s=start_s,
                end_s=end_s,
                corpus=source.corpus,
            )
        )
    if reading.missing and not (skip_missing and reading.rows):
        wav, key = reading.missing[0]
        raise CorpusError(
            f"corpus {NAME!r}: {source.path}: {len(reading.missing)} of {len(listing.entries)} clips "
            f"have no file below {root}, first {key} ({wav}); give audio=… or pass --skip-missing (skip_missing=True)"
        )
    return reading


def read_folds(
    path: str | os.PathLike[str], corpus: str | None = None, *, table: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Read the folds of a corpus, for :func:`subtone.protocols.build` (``folds="emobox", lists=…``).

    Parameters
    ----------
    path
        As for :func:`read`: a list or a folder of lists.
    corpus
        Which one, where the folder holds lists of several.
    table
        A table of the corpus, from any reader. With it clips are matched as :func:`read` matches files
        (folders may be called otherwise), and the result is indexed by the table's files; clips that the
        table lacks are left out.

    Returns
    -------
    pandas.DataFrame
        One row a clip of the list; columns ``fold_1`` … ``fold_k`` with ``train``, ``valid``, ``test`` or
        ``<NA>`` (not in this fold). The index ``clip`` is the stem, or, where a stem occurs more than once,
        as much of the path's end as makes it unique (``train_splits/dia0_utt0``), or the list's key where
        clips share a file. A fold of which only the test clips are listed has the rest in ``train``.

    Raises
    ------
    CorpusError
        If there is no list, or more than one.
    """
    source = find_list(Path(path), corpus)
    listing = read_list(source)
    entries = listing.entries
    if table is None:
        names = iter(short_names([entry.wav for entry in entries if not entry.shares_file]))
        index = [_bare(entry, source.corpus) if entry.shares_file else next(names) for entry in entries]
        return listing.folds.set_axis(pd.Index(index, name="clip", dtype="object"), axis=0)
    files = list(dict.fromkeys(str(file) for file in table.index.get_level_values("file")))
    places = _match(entries, files, source.corpus)
    kept = [position for position, entry in enumerate(entries) if entry.key in places]
    if not kept:
        raise CorpusError(
            f"corpus {NAME!r}: {source.path}: lists none of the table's {len(files)} files; "
            f"listed are names like {entries[0].wav}, the table has {files[0] if files else 'none'}"
        )
    chosen = listing.folds.iloc[kept]
    named = [str(Path(places[entries[position].key][0]).with_suffix("")) for position in kept]
    return chosen.set_axis(pd.Index(named, name="clip", dtype="object"), axis=0)


def _beside(path: Path) -> Path:
    """The folder of the recordings that goes with a list: in EmoBox, ``downloads`` beside ``data``."""
    for above in path.absolute().parents[:3]:  # data/<corpus>/fold_1/….jsonl is as deep as it gets
        if (above / "downloads").is_dir():
            return above / "downloads"
    return path.absolute().parent


def _places(entries: list[Entry], root: Path, corpus: str) -> dict[str, tuple[Path, bool]]:
    """Key → the user's file, and whether it is the file that the list names."""
    # EmoBox's downloads hold a folder a corpus, and clips of different corpora may share a stem.
    below = root / corpus if (root / corpus).is_dir() else root
    return _match(entries, [str(clip.path) for clip in walk(below)], corpus)


def _match(entries: list[Entry], files: list[str], corpus: str) -> dict[str, tuple[Path, bool]]:
    """See :func:`_places`."""
    found = resolve([entry.wav for entry in entries], files, corpus)
    places = {entry.key: (Path(found[entry.wav]), True) for entry in entries if entry.wav in found}
    shared = [entry for entry in entries if entry.shares_file]
    if shared:  # PAVOQUE: a few long files, which people cut into clips named by the keys
        for names in ([entry.key for entry in shared], [_bare(entry, corpus) for entry in shared]):
            cut = resolve(names, files, corpus)
            places |= {
                entry.key: (Path(cut[name]), False) for entry, name in zip(shared, names) if name in cut
            }
    return places


def _bare(entry: Entry, corpus: str) -> str:
    """The key without the corpus's name before it."""
    return entry.key.removeprefix(f"{corpus}-")


CORPUS = Corpus(
    name=NAME,
    title="EmoBox: lists and folds of a multilingual benchmark",
    languages=(),
    licence="MIT (the lists); the recordings have their own",
    url="https://github.com/emo-box/EmoBox",
    cite="Ma et al., EmoBox: multilingual multi-corpus speech emotion recognition, Interspeech 2024",
    emotions=(),
    published=Published(),
    reader=read,
    example="emodb.csv.gz",
)
