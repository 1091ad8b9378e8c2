"""Comparison of models, groups and prior variances by their evidence."""
