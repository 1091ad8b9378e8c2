"""What engines that maximise say to hyperpriors."""

from __future__ import annotations

from bayes_rpp import BayesianModel
from inference.data import Model


def refuse_hyperpriors(engine: str, model: Model) -> None:
    """Raise ValueError if a model has hyperpriors: as a variance goes to 0, and its weights with it, the joint density
    goes to infinity, so that it has no maximum.
    """
    if not isinstance(model, BayesianModel) or not model.hyperpriors:
        return
    names = ", ".join(model.hyperpriors)
    raise ValueError(
        f"{engine} maximises the joint density, which is unbounded as a variance goes to 0, and there are hyperpriors "
        f"on {names}. Sample these variances with the weights, by HMC, NUTS or SGHMC; or choose them by the evidence, "
        "with EmpiricalBayes; or give numbers, RPPPrior.with_variances({...})."
    )
