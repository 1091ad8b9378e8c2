"""Posterior: the one result type of every engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel, LogDensity
from bayes_rpp.networks.layers.rpp_linear import Parametrization
from bayes_rpp.networks.rollout import Rollout
from bayes_rpp.seeding import seeded_generator
from bayes_rpp.types import as_tensor
from inference.data import Model, in_columns
from inference.posterior.arviz import inference_data
from inference.posterior.draws import Draws, Snapshot
from inference.posterior.files import load_posterior, save_posterior
from inference.posterior.map_draws import assembled
from inference.posterior.named_columns import in_order_of_fit, output_names
from inference.posterior.parametrization import in_parametrization
from inference.posterior.predictive import (
    Prediction,
    evaluate,
    log_joints,
    log_likelihoods,
    outputs_in_pieces,
    predictive,
    replicates,
)
from inference.posterior.rollouts import Members, one_action_each, over_steps, rolled_out


@dataclass(repr=False)
class Posterior(Draws):
    """Draws of a model's parameters, with predictions, densities and conversions.

    Attributes
    ----------
    model : the BayesianModel or LogDensity; None for files of a network that this package did not build.
    samples : name -> (chain, draw, *shape), constrained. A member of an ensemble is a chain of one draw.
    stats : what the engine recorded; "interrupted" is True in those of a run that Ctrl-C ended early, of every engine.
    history : earlier states, where the engine kept some.
    data : the training data (x, y), if there were any.
    sample_stats : what a sampler recorded of every draw, by ArviZ's names ("lp", "acceptance_rate", "diverging",
        "energy", "n_steps", "step_size", "tree_depth", ...) -> (chain, draw); may be empty.
    partial : the chains that diverged: each a posterior of one chain with the draws it had before, whose ``stats`` hold
        "chain", its number, and "diverged", the step.

    Examples
    --------
    >>> posterior = MAP(epochs=100).fit(model, data.train, seed=0)
    >>> posterior.predict(data.test.x).mean.shape
    torch.Size([1000, 9])
    """

    def at(self, snapshot: Snapshot) -> Posterior:
        """The posterior with an earlier state in place of the last."""
        return Posterior(self.model, snapshot.samples, {**self.stats, "epochs": snapshot.epoch}, [], self.data)

    def in_parametrization(self, parametrization: Parametrization, seed: int = 0) -> Posterior:
        """The same posterior in other coordinates: every draw keeps its function, and that function its distribution.

        "collapsed" adds the pathways up. "residual" draws beta from its exact distribution given W: a draw becomes a
        draw, but a mode of W becomes no mode of (beta, B). Snapshots of the history and partial chains are converted
        alike; of the ``sample_stats``, "lp" is left out, since a density depends on the coordinates. Draws of a
        tempered posterior need its "temperature" among the ``stats``. The result is a plain Posterior.

        Parameters
        ----------
        parametrization : "residual" or "collapsed"; that which the posterior has returns the posterior itself.
        seed : of the draws of beta.

        Raises
        ------
        TypeError
            If the model is a LogDensity.
        ValueError
            If the network has no residual pathway layers, as EMLP and MLP, the parametrization is unknown, or the
            posterior is tempered and variances of residual layers have hyperpriors, which would change the posterior.

        Examples
        --------
        >>> posterior.in_parametrization("residual").samples["network.0.beta"].shape
        torch.Size([4, 1000, 1])
        """
        return in_parametrization(self, Posterior, parametrization, seeded_generator(seed))

    def outputs(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "chain draw batch *output"]:
        """The noise-free network output of every draw."""
        model, x = self.bayesian_model, as_tensor(in_order_of_fit(x, self.stats), "x").cpu()
        model.check_inputs(x)
        return evaluate(model, self.flat_samples, x).unflatten(0, (self.chains, self.draws))

    def predict(self, x: Float[Tensor, "batch *input"], keep_samples: bool = True) -> Prediction:
        """The posterior predictive at new inputs.

        Some rows and some draws are evaluated at a time, so that hardly more memory is needed than for the result: with
        all samples, draws x batch numbers for each output, without them as many as the batch has.

        Parameters
        ----------
        x : the inputs; of a frame of pandas, the columns that those of the fit had are taken by their names.
        keep_samples : whether the prediction has ``samples``, the outputs of every draw; without them moments are the
            same, and asking for the samples raises ValueError.

        Returns
        -------
        Prediction with ``samples`` (chain, draw, batch, *output), the network's noise-free outputs, and ``mean``,
        ``variance`` = ``epistemic`` + ``aleatoric`` of an observation, each (batch, *event). For a Categorical
        likelihood the samples are logits, mean and variance those of the one-hot label. An infinite variance of the
        noise is returned as such, with a warning.

        Raises
        ------
        ValueError
            If x does not fit the network, or holds NaN.
        TypeError
            If an observation has no mean or no variance: use ``outputs``, the network's alone.

        Examples
        --------
        >>> posterior.predict(data.test.x, keep_samples=False).variance.shape
        torch.Size([1000, 9])
        """
        model, x = self.bayesian_model, as_tensor(in_order_of_fit(x, self.stats), "x").cpu()
        model.check_inputs(x)
        pieces = outputs_in_pieces(model, self.flat_samples, x)
        prediction = predictive(model.likelihood, pieces, self.samples, len(x), keep_samples)
        return replace(prediction, names=output_names(self.stats))

    def over(self, steps: int) -> Posterior:
        """The posterior of trajectories over another number of steps, from the same draws; without training data.

        Raises
        ------
        TypeError
            If the network is no HamiltonianRollout or TransitionRollout.
        ValueError
            If steps is no positive integer, or the likelihood is one of a fixed number of steps.

        Examples
        --------
        >>> posterior.over(100).predict(data.test.x).mean.shape
        torch.Size([500, 1200])
        """
        return Posterior(over_steps(self.bayesian_model, self.flat_samples, steps), self.samples, self.stats)

    def rollout(
        self,
        state: Float[Tensor, "batch n"],
        actions: Float[Tensor, "batch time m"],
        *,
        particles: int = 20,
        members: Members = "fixed",
        noise: bool = True,
        seed: int = 0,
    ) -> Float[Tensor, "particle batch time+1 n"]:
        """Trajectories of a transition model from states under actions, of any length.

        Parameters
        ----------
        state, actions : the first states, and what is done at each step.
        particles : how many trajectories from each state.
        members : "fixed", where a particle follows one draw, as often as others; or "random", where it follows another
            draw at each step (TS-infinity and TS1 of Chua et al., NeurIPS 2018).
        noise : whether each step adds the noise of the likelihood's first step.
        seed : of the choice of draws, and of the noise.

        Raises
        ------
        TypeError
            If the network is no TransitionRollout, or the likelihood is no noise around the output.
        ValueError
            If shapes do not fit, or numbers are not finite.

        Examples
        --------
        >>> posterior.rollout(data.test.x[:, :11], torch.zeros(100, 50, 3)).quantile(0.95, dim=0).shape
        torch.Size([100, 51, 11])
        """
        return rolled_out(self.bayesian_model, self.flat_samples, state, actions, particles, members, noise, seed)

    def sample(
        self, state: Float[Tensor, "batch n"], action: Float[Tensor, "batch m"], *, seed: int, noise: bool = True
    ) -> Float[Tensor, "batch n"]:
        """A next state for each state and action, by a draw of its own; see ``rollout``.

        Examples
        --------
        >>> posterior.sample(torch.zeros(5, 11), torch.zeros(5, 3), seed=0).shape
        torch.Size([5, 11])
        """
        actions = one_action_each(state, action)
        return self.rollout(state, actions, particles=1, members="random", noise=noise, seed=seed)[0, :, 1]

    def log_likelihood(self, x: Tensor, y: Tensor) -> Float[Tensor, "chain draw batch"]:
        """log p(y_i | x_i, theta) of every draw and example."""
        model, x, y = self.bayesian_model, as_tensor(x, "x").cpu(), as_tensor(y, "y").cpu()
        if isinstance(model.network, Rollout):
            y = model.network.flat(y)
        y = in_columns(model, y)
        model.check_data(x, y)
        pieces = log_likelihoods(model, self.flat_samples, x, y)
        return assembled(pieces, self.chains * self.draws, len(x)).unflatten(0, (self.chains, self.draws))

    def log_joint(self) -> Float[Tensor, "chain draw"]:
        """log p(y, theta | x) of every draw on the training data, in nats; for a LogDensity, the log density.

        It is a density of the constrained parameters, at temperature 1. Raises ValueError if the model needs data and
        the posterior holds none, and TypeError if there is no model.
        """
        model = self.model if isinstance(self.model, LogDensity) else self.bayesian_model
        if self.data is None and isinstance(model, BayesianModel):
            raise ValueError("the log joint needs the training data (x, y), but this posterior's `data` are None.")
        return log_joints(model, self.flat_samples, self.data).unflatten(0, (self.chains, self.draws))

    def to_arviz(self) -> Any:
        """ArviZ InferenceData, from ArviZ 1.0 on a DataTree, for ``arviz.summary``, ``arviz.loo`` and plots: groups
        posterior, sample_stats where the sampler recorded some, and, where there are data, posterior_predictive,
        log_likelihood, observed_data.

        The members of an ensemble are the draws of one chain there, with a note among the attributes: as chains of one
        draw they would have no summaries. Parameters named "chain" or "draw" get an underscore behind the name, and a
        slash in a name becomes an underscore.
        """
        groups = {"posterior": self.samples}
        if self.sample_stats:
            groups["sample_stats"] = self.sample_stats
        if self.data is not None:
            groups["observed_data"] = {"y": self.data[1]}
        if self.data is not None and self.model is not None:
            draws, seed = self.flat_samples, int(self.stats.get("seed", 0))
            observed = replicates(self.bayesian_model, draws, self.data[0], seed)
            groups["posterior_predictive"] = {"y": observed.unflatten(0, (self.chains, self.draws))}
            groups["log_likelihood"] = {"y": self.log_likelihood(*self.data)}
        if self.chains == 1 or self.draws > 1:
            return inference_data(groups)
        as_draws = {
            group: {
                name: value.transpose(0, 1) if group != "observed_data" else value for name, value in values.items()
            }
            for group, values in groups.items()
        }
        return inference_data(
            as_draws,
            f"the draws are those of {self.chains} chains of one draw, such as members of an ensemble: they are "
            "independent of each other",
        )

    def save(self, path: str | Path) -> Path:
        """Write a folder of safetensors and JSON, and return it.

        An older posterior in the folder is replaced in one step: whoever loads meanwhile, and whatever ends the
        process, there is the older one or the new one, whole. Hidden files in the folder are left alone; of a symbolic
        link the folder is written that it leads to.

        Parameters
        ----------
        path : the folder, which is made if there is none.

        Raises
        ------
        OSError
            If the folder holds other files than an older posterior and hidden ones, or cannot be written, or the disk
            is full; the older posterior is there as before.
        TypeError
            If ``stats`` or settings of the model hold what JSON cannot hold, with the entry's name, before anything is
            written. Numbers of NumPy and tensors without dimensions are saved as numbers.
        """
        return save_posterior(self, Path(path))

    @staticmethod
    def load(path: str | Path, model: Model | None = None) -> Posterior:
        """Read what ``save`` wrote.

        Parameters
        ----------
        path : the folder.
        model : needed only for networks or log densities that this package did not build; others are rebuilt from the
            files.

        Raises
        ------
        FileNotFoundError, ValueError
            If the folder is missing, damaged, or of another version: with the file, and the entry of the header that
            holds something else than it should.
        """
        return load_posterior(Path(path), model, Posterior)
