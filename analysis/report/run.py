"""A run: a posterior with the held-out data to judge it by, in a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bayes_rpp import BayesianModel, Gaussian, NormalizedNetwork, Standardizer
from inference import Posterior
from inference.posterior.files import load_with_held_out, save_posterior

POSTERIOR = "posterior"
_TEST_OF_OLDER_RUNS = "test.safetensors"
_SHOWN = 5  # runs, in a message


@dataclass
class Run:
    """A posterior and the held-out data to judge it by."""

    posterior: Posterior
    x: Tensor
    y: Tensor

    def save(self, folder: Path) -> None:
        """Write posterior and data into a folder, which is created; both replace older ones in one step."""
        save_posterior(self.posterior, folder / POSTERIOR, (self.x, self.y))

    @staticmethod
    def load(folder: Path) -> Run:
        """Read a saved run; FileNotFoundError or ValueError if it is missing, damaged, or of another version."""
        _check_is_run(folder)
        posterior, held_out = load_with_held_out(folder / POSTERIOR, None, Posterior)
        if held_out is not None:
            return Run(posterior, *held_out)
        try:
            older = load_file(folder / _TEST_OF_OLDER_RUNS)
            return Run(posterior, older["x"], older["y"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"{folder} has no held-out data to judge the posterior by; fit the run again.") from error

    def noise_deviation(self) -> Tensor | None:
        """The standard deviation of the Gaussian noise that predictions have, a number or one for each output; None
        without one that is known.
        """
        likelihood = self.posterior.bayesian_model.likelihood
        if not isinstance(likelihood, Gaussian) or likelihood.learned:
            return None
        return torch.as_tensor(likelihood.noise_variance, dtype=torch.float64).sqrt()

    def centred(self) -> tuple[Posterior, Tensor]:
        """The posterior of outputs without the invariant offset of a normalised network, and that offset. Reports are
        about it: the group leaves the offset alone, and beside a large one every equivariance error would be 0.
        """
        model = self.posterior.bayesian_model
        network = model.network
        if not isinstance(network, NormalizedNetwork):
            return self.posterior, torch.zeros(())
        outputs = Standardizer(network.rep_out, torch.zeros_like(network.outputs.mean), network.outputs.scale)
        centred = NormalizedNetwork(network.network, network.inputs, outputs)
        of_centred = BayesianModel(centred, model.prior, model.likelihood, model.num_outputs)
        return replace(self.posterior, model=of_centred, data=None), network.outputs.mean


def _check_is_run(folder: Path) -> None:
    """FileNotFoundError if the folder is not there, or of something else; it names the runs that are in it."""
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file; give the folder of a run, which `fit --out` wrote.")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no run folder {folder}.")
    if (folder / POSTERIOR).exists():
        return
    runs = sorted(str(path.parent) for path in folder.glob(f"*/{POSTERIOR}") if path.is_dir())
    held = f"give one of the runs in it: {', '.join(runs[:_SHOWN])}" if runs else "give the one that `fit --out` wrote"
    raise FileNotFoundError(f"{folder} is not the folder of a run, and holds no saved posterior; {held}.")
