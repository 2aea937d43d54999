"""Subtone: speech emotion recognition on self-supervised speech features."""

__version__ = "0.1.0"
