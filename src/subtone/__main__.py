"""``python -m subtone`` is ``subtone``."""

from __future__ import annotations

from subtone.cli import main

if __name__ == "__main__":
    main()
