from __future__ import annotations
from subtone.cli.options import examples
EPILOG = examples("x")
def predict() -> None:
    """x"""
