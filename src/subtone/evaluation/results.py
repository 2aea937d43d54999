"""The folder that a run ends in: metrics, folds, predictions, plots, recipe, environment, a page to read."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from subtone.errors import UsageError, nearest
from subtone.evaluation import plots
from subtone.evaluation.calibrated import Calibration
from subtone.evaluation.comparison import Comparison, corrected
from subtone.evaluation.page import speaker_dependent, summary
from subtone.evaluation.reliability_plot import reliability_diagrams
from subtone.evaluation.scoring import Evaluation
from subtone.evaluation.slices import Slices
from subtone.protocols import Protocol

MARK = "metrics.json"  # what tells a result folder from any other
PACKAGES = (
    "subtone",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "transformers",
    "onnxruntime",
    "soundfile",
    "soxr",
    "av",
)


def write_results(
    folder: str | Path,
    *,
    protocol: Protocol | Mapping[str, Any],
    systems: Mapping[str, Evaluation],
    comparisons: Sequence[Comparison] = (),
    slices: Mapping[str, Slices] | None = None,
    calibration: Mapping[str, Calibration] | None = None,
    predictions: pd.DataFrame | None = None,
    recipe: str | None = None,
    environment: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    sections: Mapping[str, str] | None = None,
    about: str | None = None,
    remarks: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write a result folder, whole or not at all.

    It holds ``metrics.json`` (``{"protocol", "systems", "comparisons"}``, and ``"slices"`` and ``"calibration"``
    where they are given), ``folds.csv``, ``predictions.parquet``, ``confusion-<system>.png``, ``folds.png``,
    ``reliability.png``, ``recipe.yaml``, ``environment.json`` and ``README.md``. All is built in a hidden folder
    beside it and renamed at the end, so a run that is killed leaves no half result.

    Parameters
    ----------
    folder
        Where to; must not exist or be empty, unless ``overwrite``.
    protocol
        What was done to get the test clips; printed on top.
    systems
        Name -> evaluation.
    comparisons
        Paired comparisons of them; their p values are corrected here for the number of comparisons, see
        :func:`subtone.evaluation.corrected`.
    slices
        Name → for whom the system works.
    calibration
        Name → whether its probabilities are true.
    predictions
        One row a clip (and system), written as given, index included.
    recipe
        Text of the resolved recipe.
    environment
        What `describe_environment` gives, by default called without arguments.
    extra
        Further entries of ``metrics.json``, JSON-like.
    sections
        Further sections of ``README.md``, title → Markdown.
    about
        What was run, in a line, for the top of ``README.md``.
    remarks
        What a reader must know beside the figures, a sentence each, for the top as well.
    overwrite
        Replace an earlier result folder. A folder that holds something else is never replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        If the folder is in use, there are no systems, slices or calibration are of another system, or ``extra``
        would hide an entry.
    """
    if not systems:
        raise UsageError("a result folder needs one system or more")
    for name in (*(slices or {}), *(calibration or {})):
        if name not in systems:
            raise UsageError(
                f"slices or calibration of {name!r}, which is no system; {nearest(name, systems)}"
            )
    target = Path(folder)
    sweep(target)
    refuse_if_taken(target, overwrite=overwrite)
    verdicts = corrected(comparisons)
    record: dict[str, Any] = {
        "protocol": protocol.to_dict() if isinstance(protocol, Protocol) else dict(protocol),
        "systems": {name: evaluation.to_dict(full=True) for name, evaluation in systems.items()},
        "comparisons": [comparison.to_dict() for comparison in verdicts],
    }
    if slices is not None:
        record["slices"] = {name: one.to_dict() for name, one in slices.items()}
    if calibration is not None:
        record["calibration"] = {name: one.to_dict() for name, one in calibration.items()}
    hidden = sorted(set(extra or {}) & set(record))
    if hidden:
        raise UsageError(f"extra entry {hidden[0]!r} would hide the one of that name in {MARK}; rename it")
    record.update(extra or {})
    with whole_folder(target) as building:
        write_json(building / MARK, record)
        fold_table(systems).to_csv(building / "folds.csv", index=False)
        if predictions is not None:
            predictions.to_parquet(building / "predictions.parquet")
        names = file_names(systems)
        mark = " (speaker-dependent split)" if speaker_dependent(record["protocol"]) else ""
        for name, evaluation in systems.items():
            plots.confusion_matrix(evaluation, building / f"confusion-{names[name]}.png", title=name + mark)
        if any(evaluation.folds for evaluation in systems.values()):
            plots.fold_strip(systems, building / "folds.png", title=f"UA by fold{mark}")
        if calibration:
            reliability_diagrams(calibration, building / "reliability.png")
        if recipe is not None:
            (building / "recipe.yaml").write_text(recipe, encoding="utf-8")
        where = describe_environment() if environment is None else dict(environment)
        write_json(building / "environment.json", where)
        page = summary(
            record["protocol"],
            systems,
            verdicts,
            where,
            slices=slices,
            calibration=calibration,
            sections=sections,
            about=about,
            remarks=remarks,
        )
        (building / "README.md").write_text(page, encoding="utf-8")
    return target


def refuse_if_taken(
    folder: str | Path, *, overwrite: bool = False, mark: str = MARK, what: str = "result"
) -> None:
    """Check before a long run that its result can be written at the end.

    Parameters
    ----------
    folder
        Where to.
    overwrite
        Whether an earlier result there may be replaced.
    mark, what
        The file that tells such a folder from any other, and what it is called.

    Raises
    ------
    UsageError
        If the folder exists and is not empty, or is a file; with ``overwrite``, if it holds something else.
    """
    target = Path(folder)
    if target.is_dir():
        if not any(target.iterdir()):
            return
        if not (target / mark).is_file():
            raise UsageError(
                f"{target}: the folder is not empty and is no {what} folder (it has no {mark}), so it is not replaced; "
                "name another"
            )
        if not overwrite:
            raise UsageError(
                f"{target}: the folder is not empty; name another, or pass --overwrite to replace the {what} in it"
            )
    elif target.exists() or target.is_symlink():
        raise UsageError(f"{target}: exists and is no folder; name another")


def read_metrics(folder: str | Path) -> tuple[dict[str, Any], dict[str, Evaluation], list[Comparison]]:
    """Read a result folder's ``metrics.json`` back.

    Returns
    -------
    (dict, dict, list)
        The JSON object, the evaluations by name, the comparisons.

    Raises
    ------
    UsageError
        If the folder holds none, or it can't be read.
    """
    path = Path(folder) / MARK
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        systems = {name: Evaluation.from_dict(entry) for name, entry in record["systems"].items()}
        return record, systems, [Comparison.from_dict(entry) for entry in record["comparisons"]]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name the folder of a finished run") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not the metrics of a run, or damaged ({error}); copy it anew, or run the recipe again"
        ) from None


def fold_table(systems: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row a system and fold: ``system``, ``fold``, ``n``, ``ua``, ``wa``."""
    rows = [
        (name, fold.name, fold.n, fold.ua, fold.wa)
        for name, evaluation in systems.items()
        for fold in evaluation.folds
    ]
    return pd.DataFrame(rows, columns=["system", "fold", "n", "ua", "wa"])


def describe_environment(
    *, command: str | None = None, seeds: Sequence[int] = (), device: str | None = None
) -> dict[str, Any]:
    """What a run depended on: versions, machine, command, seeds, date. No user or host name.

    Parameters
    ----------
    command
        As typed; by default the program's own arguments.
    seeds
        Of training.
    device
        E.g. ``"cpu"`` or the name of the accelerator.
    """
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    script = Path(sys.argv[0] if sys.argv else "")
    # `python -m subtone` runs subtone/__main__.py.
    program = script.parent.name if script.name == "__main__.py" else script.name
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([program, *sys.argv[1:]]) if command is None else command,
        "seeds": [int(seed) for seed in seeds],
        "device": device,
        "python": platform.python_version(),
        "versions": versions,
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
        },
    }


def file_names(systems: Mapping[str, Any]) -> dict[str, str]:
    """System names as parts of file names, distinct even where case is ignored.

    >>> file_names({"GAP + SAP": 0, "gap/sap": 0, "GAP_+_SAP": 0})
    {'GAP + SAP': 'GAP_+_SAP', 'gap/sap': 'gap_sap', 'GAP_+_SAP': 'GAP_+_SAP-2'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for system in systems:
        stem = re.sub(r"[^\w.+-]", "_", system)[:80].lstrip(".") or "system"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names[system] = name
    return names


def write_json(path: Path, record: Any) -> None:
    """Write JSON that every reader accepts: NumPy values become numbers and lists, NaN and infinity null."""
    text = json.dumps(_plain(record), ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(entry) for entry in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is pd.NA or value is pd.NaT:
        return None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (Path, datetime.date)):
        return str(value)
    raise UsageError(
        f"a result holds {type(value).__name__} {value!r}, which JSON can't; make it a number or text"
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside the target that takes its place when all went well, and is gone otherwise.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    building = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        building.mkdir(parents=True)
        yield building
        for file in building.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if target.is_dir() and any(target.iterdir()):
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(old)
            building.rename(target)
            shutil.rmtree(old)
        else:
            building.rename(target)
    except OSError as error:
        raise UsageError(
            f"{target}: the result can't be written ({error.strerror or error}); "
            "make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def sweep(target: Path) -> None:
    """Tidy up after killed runs: half a result goes, one that was being replaced returns."""
    for ending in ("partial", "old"):
        for left in target.parent.glob(f".{_escaped(target.name)}.*.{ending}"):
            process = left.name.rsplit(".", 2)[1]
            if not process.isdecimal() or _alive(int(process)):
                continue
            if ending == "old" and not target.exists():
                left.rename(target)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
