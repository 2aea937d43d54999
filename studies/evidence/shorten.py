"""Shorten the paths of this machine in the folders that studies wrote: python shorten.py FOLDER FROM=TO …"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    folder, *pairs = sys.argv[1:]
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".json", ".md", ".csv"):
            text = path.read_text(encoding="utf-8")
            for pair in pairs:
                long, _, short = pair.partition("=")
                text = text.replace(long, short)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
