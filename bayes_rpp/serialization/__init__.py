"""Models, priors and groups as JSON values, and back."""

from bayes_rpp.serialization.registry import register

__all__ = ["register"]
