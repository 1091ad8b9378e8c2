"""Gradient training of many members at once: MAP and deep ensembles."""
