"""Slow, obvious versions of what the package does fast: the oracles of the tests."""

