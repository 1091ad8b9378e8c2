"""Estimators for scikit-learn: its pipelines, searches and cross-validation with models of this package."""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError('inference.scikit_learn needs scikit-learn: pip install "bayes_rpp[sklearn]".') from error

from inference.scikit_learn.classifier import RPPClassifier
from inference.scikit_learn.regressor import RPPRegressor

__all__ = ["RPPClassifier", "RPPRegressor"]


def __dir__() -> list[str]:
    return __all__
