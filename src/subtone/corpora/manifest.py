"""Any list of files and labels, as CSV, TSV or Parquet.

Columns are known by many names, labels are brought onto the closed vocabulary, and a row that points nowhere
or holds a label nobody knows is an error that names the row.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from subtone.corpora.base import Corpus, Gender, Published, Reading, Row
from subtone.corpora.labels import emotion_of, gender_of, split_of
from subtone.corpora.names import AUDIO_SUFFIXES
from subtone.errors import CorpusError, nearest

NAME = "manifest"
T = TypeVar("T")

# Our column -> names it goes by, best first; case and the characters between words do not matter.
NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        "file",
        "path",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "wav",
        "wav_path",
        "audio",
        "audio_path",
    ),
    "start": ("start", "start_s", "start_time", "begin", "onset"),
    "end": ("end", "end_s", "end_time", "stop"),
    "emotion": ("emotion", "label", "emo", "class"),
    "raw": ("raw", "raw_label", "raw_emotion"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "actor"),
    "gender": ("gender", "sex"),
    "language": ("language", "lang"),
    "session": ("session", "session_id"),
    "intensity": ("intensity", "emotion_intensity"),
    "sentence": ("sentence", "sentence_id", "text_id"),
    "text": ("text", "transcript", "transcription"),
    "age": ("age",),
    "arousal": ("arousal", "activation"),
    "valence": ("valence",),
    "dominance": ("dominance",),
    "split": ("split", "partition", "subset"),
    "corpus": ("corpus", "dataset", "database"),
}
_NUMBERS = ("age", "arousal", "valence", "dominance")
_PLAIN = ("raw", "speaker", "language", "session", "intensity", "sentence", "text", "corpus")
_TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".parquet")


def read(
    path: Path,
    *,
    columns: Mapping[str, str | None] | None = None,
    root: str | Path | None = None,
    skip_missing: bool = False,
    skip_unknown: bool = False,
) -> Reading:
    """Read a manifest; see :meth:`subtone.corpora.base.Corpus.read`.

    One line an utterance. Only a column with the file is needed; the others are ``start`` and ``end``
    (seconds, or times like ``0 days 00:00:01.5``), ``emotion`` and the columns of the table, under the names
    in :data:`NAMES`. Tables that Subtone or audformat wrote as Parquet are read back as they are. Rows are
    counted from 1, the header not among them.

    Parameters
    ----------
    path
        A ``.csv``, ``.tsv`` (either may be ``.gz``) or ``.parquet`` file; text is UTF-8.
    columns
        Our name → the manifest's, e.g. ``{"emotion": "my_label"}``; None instead of a name leaves the column
        unread.
    root
        Folder that relative files are relative to; None is that of the manifest. A file that is there under
        another audio extension is taken.
    skip_missing
        Leave rows out whose file is not there (they are listed in ``missing``); else they are an error.
    skip_unknown
        Leave rows out whose emotion nobody knows (they are listed in ``skipped``); else they are an error.

    Returns
    -------
    Reading
        A row each; an empty emotion is ``<NA>``.

    Raises
    ------
    CorpusError
        If the manifest cannot be read, has no column of files, or a row breaks the rules.
    """
    frame = _load(path)
    places = _columns(path, [str(name) for name in frame.columns], columns or {})
    base = Path(root) if root is not None else path.absolute().parent
    reading = Reading()
    absent: list[tuple[int, str]] = []
    cells = {ours: frame[theirs].tolist() for ours, theirs in places.items()}
    for number in range(1, len(frame) + 1):
        values = {ours: _cell(column[number - 1]) for ours, column in cells.items()}
        where = f"corpus {NAME!r}: {path}: row {number}"
        named = values.get("file")
        if named is None or not str(named).strip():
            raise CorpusError(f"{where}: names no file (column {places['file']!r} is empty)")
        file = _locate(base, str(named).strip())
        if file is None:
            absent.append((number, str(named)))
            reading.missing.append((str(named), f"{path.name}, row {number}"))
            continue
        try:
            emotion = emotion_of(str(values["emotion"])) if values.get("emotion") is not None else None
        except ValueError as error:
            if not skip_unknown:
                raise CorpusError(
                    f"{where}: {error}; correct the row or pass --skip-unknown (skip_unknown=True)"
                ) from None
            reading.skipped.append((str(file), f"row {number}: {error}"))
            continue
        reading.rows.append(_row(where, file, emotion, values))
    if absent and not skip_missing:
        number, named = absent[0]
        more = f" (and {len(absent) - 1} more rows)" if len(absent) > 1 else ""
        is_folder = (base / named).is_dir()
        raise CorpusError(
            f"corpus {NAME!r}: {path}: row {number}: {named!r} "
            f"{'is a folder' if is_folder else f'is not there, looked for in {base}'}{more}; "
            "correct the row, give root=…, or pass --skip-missing (skip_missing=True)"
        )
    return reading


def _load(path: Path) -> pd.DataFrame:
    """The manifest as a frame; text cells as they stand."""
    name = path.name.lower()
    if not path.exists():
        raise CorpusError(f"corpus {NAME!r}: {path}: no such file")
    if path.is_dir():
        raise CorpusError(f"corpus {NAME!r}: {path}: is a folder; give the CSV or Parquet file itself")
    if not name.endswith(_TABLES):
        raise CorpusError(f"corpus {NAME!r}: {path}: is none of {', '.join(_TABLES)}")
    if name.endswith(".parquet"):
        try:
            frame = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises many kinds for a damaged file
            raise CorpusError(f"corpus {NAME!r}: {path}: is no Parquet file ({error})") from error
        if frame.index.nlevels > 1 or frame.index.name is not None:
            frame = frame.reset_index()
    else:
        frame = _text_table(path)
    if frame.empty:
        raise CorpusError(f"corpus {NAME!r}: {path}: has no row")
    return frame


def _text_table(path: Path) -> pd.DataFrame:
    """A CSV or TSV file, all cells text; a line of another length than the header is an error."""
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"corpus {NAME!r}: {path}: cannot be read ({error}); a manifest is UTF-8 text"
        ) from error
    first = text.split("\n", 1)[0]
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = [cells for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise CorpusError(f"corpus {NAME!r}: {path}: line {reader.line_num}: {error}") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    for number, cells in enumerate(lines[1:], 1):
        if len(cells) != len(header):
            raise CorpusError(
                f"corpus {NAME!r}: {path}: row {number}: has {len(cells)} cells, the header {len(header)}; "
                f"put quotes round a cell that holds {delimiter!r}"
            )
    return pd.DataFrame(lines[1:], columns=header, dtype=object)


def _columns(path: Path, present: list[str], chosen: Mapping[str, str | None]) -> dict[str, str]:
    """Our column → the manifest's."""
    where = f"corpus {NAME!r}: {path}"
    for name in present:
        if present.count(name) > 1:
            raise CorpusError(f"{where}: has two columns {name!r}; rename one")
    for ours, theirs in chosen.items():
        if ours not in NAMES:
            raise CorpusError(f"{where}: columns={{{ours!r}: …}}: no such column; {nearest(ours, NAMES)}")
        if theirs is not None and theirs not in present:
            raise CorpusError(f"{where}: has no column {theirs!r}; {nearest(theirs, present)}")
    plain = {"_".join(name.lower().replace("-", " ").replace("_", " ").split()): name for name in present}
    taken = {theirs for theirs in chosen.values() if theirs is not None}
    places: dict[str, str] = {}
    for ours, names in NAMES.items():
        if ours in chosen:
            theirs = chosen[ours]
        else:
            free = [plain[name] for name in names if name in plain and plain[name] not in taken]
            theirs = free[0] if free else None
        if theirs is not None:
            places[ours] = theirs
    if "file" not in places:
        raise CorpusError(
            f"{where}: has no column of files (one of {', '.join(NAMES['file'])}) "
            f"among {', '.join(present)}; name it with columns={{'file': …}}"
        )
    return places


def _cell(value: Any) -> Any:
    """None for nothing: empty text, NaN, NaT, NA."""
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None or pd.isna(value) else value


def _locate(base: Path, named: str) -> Path | None:
    """The file of a row, or the same stem beside it under another audio extension."""
    for spelling in dict.fromkeys((named, named.replace("\\", "/"))):
        path = base / spelling  # an absolute spelling stands for itself
        try:
            if path.is_file():
                return path
            if path.suffix.lower() in AUDIO_SUFFIXES and not path.is_dir() and path.parent.is_dir():
                for suffix in sorted(AUDIO_SUFFIXES):
                    if path.with_suffix(suffix).is_file():
                        return path.with_suffix(suffix)
        except (OSError, ValueError):  # a name too long or with a null character is no file
            return None
    return None


def _row(where: str, file: Path, emotion: str | None, values: Mapping[str, Any]) -> Row:
    """Make the row of a line."""
    start_s = _seconds(where, "start", values.get("start")) or 0.0
    end_s = _seconds(where, "end", values.get("end"))
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise CorpusError(f"{where}: start {start_s:g} s and end {end_s} s are no stretch of a file")
    gender: Gender | None = _read(where, gender_of, values.get("gender"))
    text = {name: str(values[name]) for name in _PLAIN if values.get(name) is not None}
    if "raw" not in text and values.get("emotion") is not None:
        text["raw"] = str(values["emotion"])
    return Row(
        file=file,
        emotion=emotion,
        gender=gender,
        split=_read(where, split_of, values.get("split")),
        start_s=start_s,
        end_s=end_s,
        **{name: _number(where, name, values.get(name)) for name in _NUMBERS},  # type: ignore[arg-type]
        **text,  # type: ignore[arg-type]
    )


def _read(where: str, reader: Callable[[str], T | None], value: Any) -> T | None:
    """Read a cell by a table of spellings, with the row in the message."""
    try:
        return None if value is None else reader(str(value))
    except ValueError as error:
        raise CorpusError(f"{where}: {error}") from None


def _number(where: str, name: str, value: Any) -> float | None:
    """Read a finite number."""
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise CorpusError(f"{where}: {name} {value!r} is no number") from None
    return found if math.isfinite(found) else None


def _seconds(where: str, name: str, value: Any) -> float | None:
    """Read a time: a number of seconds, or what pandas reads as a time span."""
    if value is None:
        return None
    try:
        return _number(where, name, value)
    except CorpusError:
        try:
            span = pd.Timedelta(value)
        except (ValueError, TypeError):
            raise CorpusError(
                f"{where}: {name} {value!r} is neither seconds nor a time like '0 days 00:00:01.5'"
            ) from None
    return None if pd.isna(span) else span.total_seconds()


CORPUS = Corpus(
    name=NAME,
    title="A list of files and labels",
    languages=(),
    licence="that of the files",
    url="",
    cite="",
    emotions=(),
    published=Published(),
    reader=read,
    example="file,emotion,speaker",
)
