"""Databases in audEERING's audformat: a folder with a YAML header and tables as CSV or Parquet.

Only the header's meaning is audformat's here. The package would read a table's ``.pkl`` before its CSV and
the header with a YAML loader that makes objects; both run code that came with the data, so tables are read as
CSV or Parquet, and the header as plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import audformat
import pandas as pd
import yaml

from subtone.corpora.base import Corpus, Published, Reading, Row
from subtone.corpora.labels import emotion_of, gender_of, split_of
from subtone.corpora.names import check_folder
from subtone.errors import CorpusError, nearest

NAME = "audformat"

# Our column -> the schemes and columns it goes by in databases.
SCHEMES: dict[str, tuple[str, ...]] = {
    "speaker": ("speaker", "speaker_id"),
    "gender": ("gender", "sex"),
    "language": ("language",),
    "age": ("age",),
    "session": ("session",),
    "intensity": ("intensity", "emotional intensity", "emotion.intensity"),
    "text": ("transcription", "transcript", "text"),
    "arousal": ("arousal",),
    "valence": ("valence",),
    "dominance": ("dominance",),
}
_EMOTION = ("emotion", "emotions")
# audformat names languages by three letters (ISO 639-3).
LANGUAGES: dict[str, str] = {
    "amh": "am",
    "ara": "ar",
    "ben": "bn",
    "ces": "cs",
    "cmn": "zh",
    "dan": "da",
    "deu": "de",
    "ell": "el",
    "eng": "en",
    "est": "et",
    "fas": "fa",
    "fin": "fi",
    "fra": "fr",
    "hin": "hi",
    "hun": "hu",
    "ita": "it",
    "jpn": "ja",
    "kor": "ko",
    "nld": "nl",
    "pes": "fa",
    "pol": "pl",
    "por": "pt",
    "ron": "ro",
    "rus": "ru",
    "spa": "es",
    "swe": "sv",
    "tur": "tr",
    "urd": "ur",
    "yue": "zh",
    "zho": "zh",
}


@dataclass(frozen=True)
class _Database:
    """A header, where it lies, and under which name."""

    root: Path
    name: str
    header: audformat.Database


def read(
    folder: Path,
    *,
    tables: str | Sequence[str] | None = None,
    column: str | None = None,
    skip_missing: bool = False,
    skip_unknown: bool = False,
) -> Reading:
    """Read an audformat database; see :meth:`subtone.corpora.base.Corpus.read`.

    Utterances are those of the tables with an emotion. What else is known of them (speaker, words, ratings)
    is looked up in the other tables and in the labels of the schemes. The column ``corpus`` is the database's
    name.

    Parameters
    ----------
    folder
        The folder with ``db.yaml`` (or another single header); files are relative to it.
    tables
        Tables to read; None takes all that have the emotion.
    column
        The column with the emotion; None finds the one named, or of the scheme, ``emotion``.
    skip_missing
        Leave rows out whose file is not there (they are listed in ``missing``); else they are an error.
    skip_unknown
        Leave rows out whose emotion nobody knows (they are listed in ``skipped``); else they are an error.

    Returns
    -------
    Reading
        A row for each file or segment; one that stands in several tables with the same emotion is one row.

    Raises
    ------
    CorpusError
        If there is no header, no table with an emotion, a table only as pickle, or two tables disagree.
    """
    database = _open(folder)
    chosen = _emotion_tables(database, tables, column)
    details = _Details(database)
    reading = Reading()
    rows: dict[tuple[Any, ...], tuple[str, Row]] = {}
    for table_id, column_id in chosen:
        table = database.header.tables[table_id]
        split = _split(database, table)
        frame = _load(database, table_id)
        for number, line in enumerate(frame.to_dict("records"), 1):
            where = f"table {table_id!r}, row {number}"
            raw = None if pd.isna(line[column_id]) else str(line[column_id])
            try:
                emotion = emotion_of(raw) if raw is not None else None
            except ValueError as error:
                if not skip_unknown:
                    raise CorpusError(
                        f"corpus {NAME!r}: {database.root}: {where}: {error}; "
                        "pass --skip-unknown (skip_unknown=True)"
                    ) from None
                reading.skipped.append((str(line["file"]), f"{where}: {error}"))
                continue
            file = database.root / str(line["file"])
            if not file.is_file():
                reading.missing.append((str(line["file"]), where))
                continue
            start_s, end_s = _span(database, where, line)
            row = Row(
                file=file,
                emotion=emotion,
                raw=raw,
                split=split,
                start_s=start_s,
                end_s=end_s,
                corpus=database.header.name or None,
                **details.of(line),
            )
            before = rows.setdefault((str(file), start_s, end_s), (where, row))
            if before[1].emotion != emotion:
                raise CorpusError(
                    f"corpus {NAME!r}: {database.root}: {where}: {line['file']} is {raw!r} here and "
                    f"{before[1].raw!r} in {before[0]}; choose the tables with tables=…"
                )
    reading.rows = [row for _, row in rows.values()]
    if reading.missing and not (skip_missing and reading.rows):
        file_, where = reading.missing[0]
        raise CorpusError(
            f"corpus {NAME!r}: {database.root}: {where}: {file_!r} is not there "
            f"({len(reading.missing)} such rows); add the audio or pass --skip-missing (skip_missing=True)"
        )
    return reading


def _open(folder: Path) -> _Database:
    """Read the header as plain data."""
    root = check_folder(NAME, folder)
    headers = [root / "db.yaml"] if (root / "db.yaml").is_file() else sorted(root.glob("*.yaml"))
    if len(headers) != 1:
        names = ", ".join(path.name for path in headers)
        what = f"holds several headers ({names})" if headers else "has no db.yaml"
        raise CorpusError(f"corpus {NAME!r}: {root}: {what}; give the folder of one audformat database")
    try:
        content = yaml.safe_load(headers[0].read_text(encoding="utf-8"))
        header = audformat.Database.load_header_from_yaml(content)
    except Exception as error:  # whatever audformat meets in a header that is none
        raise CorpusError(f"corpus {NAME!r}: {headers[0]}: is no audformat header ({error})") from error
    return _Database(root, headers[0].stem, header)


def _emotion_tables(
    database: _Database, tables: str | Sequence[str] | None, column: str | None
) -> list[tuple[str, str]]:
    """``(table, column)`` of the tables to read."""
    header = database.header
    where = f"corpus {NAME!r}: {database.root}"
    wanted = None if tables is None else [tables] if isinstance(tables, str) else list(tables)
    for table_id in wanted or ():
        if table_id not in header.tables:
            raise CorpusError(f"{where}: has no table {table_id!r}; {nearest(table_id, header.tables)}")
    found: list[tuple[str, str]] = []
    for table_id in wanted if wanted is not None else header.tables:
        columns = header.tables[table_id].columns
        if column is not None:
            names = [column] if column in columns else []
        else:
            names = [name for name in columns if name.lower() in _EMOTION]
            names = names or [name for name in columns if str(columns[name].scheme_id).lower() in _EMOTION]
        if len(names) > 1:
            raise CorpusError(
                f"{where}: table {table_id!r} has several columns of emotions ({', '.join(names)}); "
                "pass column=…"
            )
        found += [(table_id, name) for name in names]
    if not found:
        every = sorted({name for table_id in header.tables for name in header.tables[table_id].columns})
        what = repr(column) if column is not None else "of emotions"
        raise CorpusError(f"{where}: no table has a column {what}; there are {', '.join(every) or 'none'}")
    return found


def _load(database: _Database, table_id: str) -> pd.DataFrame:
    """A table from Parquet or CSV, its levels as columns; never from a pickle."""
    stem = database.root / f"{database.name}.{table_id}"
    for path in (Path(f"{stem}.parquet"), Path(f"{stem}.csv")):
        if not path.is_file():
            continue
        try:
            if path.suffix == ".parquet":
                frame = pd.read_parquet(path)
            else:  # only an empty cell is nothing: "NA" or "None" may be somebody's label
                frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        except Exception as error:  # pandas and pyarrow raise many kinds for a damaged file
            raise CorpusError(f"corpus {NAME!r}: {path}: cannot be read ({error})") from error
        if frame.index.nlevels > 1 or frame.index.name is not None:
            frame = frame.reset_index()
        _check_columns(database, table_id, path, frame)
        return frame
    if Path(f"{stem}.pkl").exists():
        raise CorpusError(
            f"corpus {NAME!r}: {stem}.pkl: the table is there only as a pickle, which can run code and is "
            "not read; save the database with storage_format='csv' or 'parquet'"
        )
    raise CorpusError(f"corpus {NAME!r}: {stem}.csv or .parquet: the table's file is not there")


def _check_columns(database: _Database, table_id: str, path: Path, frame: pd.DataFrame) -> None:
    """Refuse a table file that lacks what the header says it has."""
    header = database.header
    table = header.tables[table_id] if table_id in header.tables else header.misc_tables[table_id]
    levels = list(table.levels) if table_id in header.misc_tables else ["file"]
    for name in (*levels, *table.columns):
        if name not in frame.columns:
            raise CorpusError(f"corpus {NAME!r}: {path}: lacks the column {name!r} that the header names")


def _split(database: _Database, table: Any) -> str | None:
    """The part that a table is."""
    split = database.header.splits.get(table.split_id) if table.split_id is not None else None
    try:
        return split_of(str(split.type)) if split is not None else None
    except ValueError:
        return None  # audformat allows types of one's own


def _span(database: _Database, where: str, line: dict[Any, Any]) -> tuple[float, float | None]:
    """Start and end of a line in seconds."""
    spans = []
    for level in ("start", "end"):
        value = line.get(level)
        try:
            spans.append(None if value is None or pd.isna(value) else pd.Timedelta(value).total_seconds())
        except (ValueError, TypeError):
            raise CorpusError(
                f"corpus {NAME!r}: {database.root}: {where}: {level} {value!r} is no time"
            ) from None
    return spans[0] or 0.0, spans[1]


class _Details:
    """What a database knows of its files beside the emotion, looked up table by table."""

    def __init__(self, database: _Database) -> None:
        self._database = database
        self._found = {ours: dict(self._values(names)) for ours, names in SCHEMES.items()}
        self._labels = {ours: self._scheme_labels(names) for ours, names in SCHEMES.items()}
        listed = [LANGUAGES.get(str(name), str(name)) for name in database.header.languages]
        self._language = listed[0] if len(listed) == 1 else None

    def _columns(self, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """``(table, column)`` that may hold one of ours: those so named before those of such a scheme."""
        tables = self._database.header.tables
        for by_name in (True, False):
            for table_id in tables:
                for column_id, column in tables[table_id].columns.items():
                    named = column_id if by_name else str(column.scheme_id)
                    if named.lower() in names:
                        yield table_id, column_id

    def _values(self, names: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """``((file, start, end), value)``; a file as a whole has no start and end."""
        seen: set[tuple[Any, ...]] = set()
        for table_id, column_id in self._columns(names):
            for line in _load(self._database, table_id).to_dict("records"):
                key = (str(line["file"]), *_span(self._database, table_id, line))
                if key not in seen and not pd.isna(line[column_id]):
                    seen.add(key)
                    yield key, line[column_id]

    def _scheme_labels(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Label → what the scheme says of it: ``{"3": {"gender": "male", "age": 31}}``."""
        schemes = self._database.header.schemes
        for name in schemes:
            labels = schemes[name].labels if name.lower() in names else None
            if isinstance(labels, str):  # the name of a misc table
                frame = _load(self._database, labels)
                level = next(iter(self._database.header.misc_tables[labels].levels))
                return {str(line.pop(level)): line for line in frame.to_dict("records")}
            if isinstance(labels, dict):
                return {str(label): about for label, about in labels.items()}
        return {}

    def of(self, line: dict[Any, Any]) -> dict[str, Any]:
        """Our columns for a line of a table."""
        key = (str(line["file"]), *_span(self._database, "", line))
        values = {ours: found.get(key, found.get((key[0], 0.0, None))) for ours, found in self._found.items()}
        about = self._labels["speaker"].get(str(values["speaker"]), {})
        about = about if isinstance(about, dict) else {}
        for ours in ("gender", "age", "language"):
            if values[ours] is None:
                values[ours] = about.get(ours)
        details: dict[str, Any] = {
            ours: None if value is None or pd.isna(value) else str(value) for ours, value in values.items()
        }
        for ours in ("age", "arousal", "valence", "dominance"):
            details[ours] = None if details[ours] is None else float(details[ours])
        details["gender"] = None if details["gender"] is None else gender_of(details["gender"])
        language = details["language"]
        details["language"] = LANGUAGES.get(language, language) if language is not None else self._language
        words = self._labels["text"].get(str(details["text"])) if details["text"] is not None else None
        if isinstance(words, str):  # the table holds a code for each sentence, the scheme its words
            details["sentence"], details["text"] = details["text"], words
        return details


CORPUS = Corpus(
    name=NAME,
    title="A database in audformat",
    languages=(),
    licence="that of the database",
    url="https://audeering.github.io/audformat/",
    cite="",
    emotions=(),
    published=Published(),
    reader=read,
    example="db.yaml",
)
