"""The verdict on a table of convergence, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from inference import Posterior
from inference.posterior.arviz import least_draws

if TYPE_CHECKING:
    import xarray as xr

AGREEMENT, ENOUGH = 1.01, 400  # of R-hat and of effective draws: Vehtari et al., 2021
ERROR = "equivariance error"
APPROXIMATIONS = ("Laplace", "PyroGuide")


def verdict(table: xr.Dataset, posterior: Posterior) -> str:
    """A sentence or two on the table of ``convergence``, and on chains and draws that diverged. That chains agree says
    nothing of modes that none of them has visited.
    """
    return " ".join([*_on_bad_values(table, posterior), *_on_agreement(table, posterior), *_on_divergences(posterior)])


def _on_agreement(table: xr.Dataset, posterior: Posterior) -> Iterator[str]:
    chains, draws, least = posterior.chains, posterior.draws, least_draws(posterior.chains)
    judged = table.isel(function=np.flatnonzero(table.r_hat.notnull()))
    if posterior.stats.get("engine") in APPROXIMATIONS:
        yield f"Draws of {posterior.stats['engine']} are independent: R-hat cannot tell how good the approximation is."
    elif draws == 1:
        who = f"{chains} members of one draw each are no chains" if chains > 1 else "One draw is no chain"
        yield f"{who}: R-hat says nothing."
    elif draws < least:
        yield f"{_count(chains, 'chain')} of {draws} draws: too short for R-hat, which needs {least} draws."
    elif not judged.function.size:
        yield "No function varies, so that R-hat says nothing."
    else:
        worst = judged.isel(function=int(judged.r_hat.values.argmax()))
        r_hat, where = f"{float(worst.r_hat):.5g}", str(worst.r_hat_element.values)
        if float(worst.r_hat) >= AGREEMENT:
            who = "The chains" if chains > 1 else "The parts of the one chain"
            yield f"{who} do not agree: R-hat {r_hat} of {where}, where agreement is below {AGREEMENT};"
            yield "run longer. Chains that all had one starting point say nothing about other modes: start them from an"
            yield "ensemble."
            return
        if chains > 1:
            yield f"{chains} chains agree (largest R-hat {r_hat}, of {where});"
        else:
            yield f"There is one chain: its parts agree (largest split R-hat {r_hat}, of {where}),"
            yield "but only other chains could show what it has missed;"
        yield from _on_effective_draws(judged)


def _on_effective_draws(judged: xr.Dataset) -> Iterator[str]:
    effective = np.minimum(judged.ess_bulk, judged.ess_tail)
    worst = int(effective.values.argmin())
    least, where = float(effective[worst]), str(judged.ess_element.values[worst])
    if ERROR in judged.function.values:
        error = float(effective.sel(function=ERROR))
        yield f"{error:.0f} effective draws of the {ERROR}, {least:.0f} of the worst function ({where})."
    else:
        yield f"{least:.0f} effective draws of the worst function ({where})."
    if least < ENOUGH:
        yield f"Fewer than {ENOUGH} effective draws are too few to trust quantiles, and R-hat itself: run longer."


def _on_bad_values(table: xr.Dataset, posterior: Posterior) -> Iterator[str]:
    names, finite = table.function.values, table.finite.values
    if not finite.all():
        yield f"Not finite in some draws, and not judged there: {', '.join(names[~finite])}."
    constant = (table.constant == table.elements).values & finite
    if posterior.draws > 1 and constant.any():
        yield f"The same in every draw: {', '.join(names[constant])}."


def _on_divergences(posterior: Posterior) -> Iterator[str]:
    total = posterior.chains * posterior.draws
    diverging = posterior.sample_stats.get("diverging")
    if diverging is not None and (count := int(diverging.sum())):
        yield (
            f"{count} of {_count(total, 'draw')} came from a step that diverged: the chains do not reach all of the "
            "posterior; raise target_accept, or take smaller steps."
        )
    lost = {int(part.stats["chain"]): part.stats["diverged"] for part in posterior.partial}
    if isinstance(noted := posterior.stats.get("diverged"), Mapping):  # chains without any draw are here alone
        lost |= {int(chain): step for chain, step in noted.items()}
    if lost:
        which = ", ".join(f"chain {chain} in step {step}" for chain, step in sorted(lost.items()))
        yield f"{_count(len(lost), 'chain')} of {posterior.chains + len(lost)} diverged and are left out ({which})."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
