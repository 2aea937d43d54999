"""Environments of the peers that the extraction is compared with: ``python benchmarks/peers.py FOLDER``.

Each gets one of its own with the same torch and the same transformers as this one. torchaudio's newest wheel may be
built for another torch than the one that is there; its own C++ operators, which nothing here uses, are then moved away.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

PEERS = {"s3prl": "s3prl==0.4.18", "speechbrain": "speechbrain==1.1.2"}
TORCHAUDIO = "torchaudio==2.11.0"


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    constraints = folder / "constraints.txt"
    pinned = [
        f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in ("torch", "transformers")
    ]
    constraints.write_text("\n".join(pinned) + "\n", encoding="utf-8")
    for name, package in PEERS.items():
        made = folder / name
        if (made / "made").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(made)], check=True)
        python = made / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
        # torch first, and torchaudio without what it asks for: neither may bring another torch.
        subprocess.run([*pip, *pinned, "numpy"], check=True)
        subprocess.run([*pip, "--no-deps", TORCHAUDIO], check=True)
        subprocess.run([*pip, package, *pinned], check=True)
        move_operators_away(python)
        (made / "made").touch()
        print(f"{name}: {made}")


def move_operators_away(python: Path) -> None:
    """Make torchaudio importable."""
    if subprocess.run([str(python), "-c", "import torchaudio"], capture_output=True).returncode == 0:
        return
    (operators,) = python.parent.parent.glob("lib/python*/site-packages/torchaudio/lib")
    operators.rename(operators.with_name("lib.away"))
    subprocess.run([str(python), "-c", "import torchaudio"], check=True)


if __name__ == "__main__":
    main()
