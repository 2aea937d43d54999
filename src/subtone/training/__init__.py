"""Training of classifiers on frozen features."""
