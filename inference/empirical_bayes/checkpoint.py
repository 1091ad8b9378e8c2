"""What EmpiricalBayes keeps on disk beside the networks: the variances of a pass, and the rounds of a refinement."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.serialization.models import model_identity
from bayes_rpp.types import Params
from inference.checkpoint import Checkpoint, digest, start_identity
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.empirical_bayes.modes import Round
from inference.empirical_bayes.settings import EvidenceSettings
from inference.posterior.posterior import Posterior

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def check_stages(path: str | Path | None) -> None:
    """Raise ValueError if there are files of later stages without that of the first: the fit would train as a whole
    before it refused them.
    """
    if path is None or Path(path).exists():
        return
    for file in sorted(Path(path).parent.glob(f"{Path(path).name}-*")):
        if file.name.endswith("-refinement") or "-pass-" in file.name:
            raise ValueError(
                f"the checkpoint {file} is of a fit whose first file, {path}, is gone: remove it too to start anew, or "
                "give another path."
            )


def ascent_state(ascent: EvidenceAscent) -> dict[str, Tensor]:
    """The logarithms, in their order, and what Adam keeps of each, if it has taken a step."""
    state = {"logs": torch.stack([log.detach() for log in ascent.logs.values()])}
    kept = [ascent.optimizer.state[log] for log in ascent.logs.values() if ascent.optimizer.state[log]]
    for name in _MOMENTS if kept else ():
        state[name] = torch.stack([own[name].double() for own in kept])
    return state


@torch.no_grad()
def restore_ascent(ascent: EvidenceAscent, state: dict[str, Tensor]) -> None:
    """Go on from a state with the same bits."""
    for number, log in enumerate(ascent.logs.values()):
        log.copy_(state["logs"][number])
        if "step" in state:
            own = {name: state[name][number].clone() for name in _MOMENTS}
            ascent.optimizer.state[log] = own | {"step": own["step"].float()}
        else:
            ascent.optimizer.state.pop(log, None)


class _PlainRound(TypedDict):
    values: dict[str, float]
    evidences: dict[str, float]
    decrements: dict[str, float]
    objective: float


class _Plain(TypedDict):
    """What is kept of the rounds beside tensors."""

    rounds: list[_PlainRound]
    finished: bool


class RefinementCheckpoint:
    """The rounds of a refinement, and the variances that the next one begins with."""

    def __init__(
        self, path: Path | None, posterior: Posterior, given: BayesianModel, settings: EvidenceSettings
    ) -> None:
        self.file = None
        if path is not None:
            weights = torch.cat([value.flatten(1).double() for value in posterior.samples.values()], dim=1)
            assert posterior.data is not None
            identity = {
                "engine": "the refinement of EmpiricalBayes",
                **vars(settings),
                "data": digest(*posterior.data),
                "model": model_identity(given),
                "start": start_identity(weights),
                "variances": posterior.stats["variances"],
            }
            self.file = Checkpoint(path, identity)

    def restore(self, ascent: EvidenceAscent) -> tuple[list[Round], bool]:
        """The rounds so far, and whether they are all."""
        if self.file is None or (found := self.file.load(_Plain)) is None:
            return [], False
        tensors, plain = found
        restore_ascent(ascent, tensors)
        rounds = [_round(kept, number, tensors) for number, kept in enumerate(plain["rounds"])]
        return rounds, plain["finished"]

    def save(self, ascent: EvidenceAscent, rounds: list[Round], finished: bool) -> None:
        """Write the present state; between two rounds."""
        if self.file is None:
            return
        tensors = ascent_state(ascent)
        for number, kept in enumerate(rounds):
            for member, mode in kept.modes.items():
                tensors |= {f"{number}/{member}/{name}": value for name, value in mode.items()}
        plain = [{name: value for name, value in vars(kept).items() if name != "modes"} for kept in rounds]
        self.file.save(tensors, {"rounds": plain, "finished": finished})


def _round(plain: _PlainRound, number: int, tensors: dict[str, Tensor]) -> Round:
    evidences = {int(member): value for member, value in plain["evidences"].items()}
    decrements = {int(member): value for member, value in plain["decrements"].items()}
    modes: dict[int, Params] = {}
    for member in evidences:
        prefix = f"{number}/{member}/"
        modes[member] = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    return Round(plain["values"], modes, evidences, decrements, plain["objective"])
