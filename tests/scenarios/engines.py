"""Every engine, with settings under which it takes no time."""

from pyro.infer.autoguide import AutoNormal

from inference import HMC, MAP, NUTS, SGHMC, SGLD, DeepEnsemble, EmpiricalBayes, Laplace, PyroGuide

WALK = {"chains": 2, "draws": 3, "warmup": 3}
TRAINING = {"epochs": 3, "batch_size": 8, "lr": 1e-2}
SAMPLERS_OWN = ["start", "checkpoint"]
# engine, chains and draws of its posteriors, what its fit takes beyond what all take
CASES = [
    (MAP(**TRAINING), (1, 1), ["start", "checkpoint", "save_to"]),
    (DeepEnsemble(members=3, **TRAINING), (3, 1), ["start", "checkpoint", "save_to"]),
    (SGLD(step_size=1e-6, batch_size=8, **WALK), (2, 3), SAMPLERS_OWN),
    (SGHMC(step_size=1e-4, batch_size=8, **WALK), (2, 3), SAMPLERS_OWN),
    (HMC(metric="diagonal", trajectory_length=0.1, **WALK), (2, 3), SAMPLERS_OWN),
    (NUTS(max_tree_depth=2, metric="diagonal", **WALK), (2, 3), SAMPLERS_OWN),
    (Laplace("last_layer", draws=3, mode=MAP(**TRAINING)), (1, 3), ["start"]),
    (PyroGuide(AutoNormal, steps=3, draws=3), (1, 3), []),
    (EmpiricalBayes(**TRAINING), (1, 1), ["checkpoint"]),  # learns a prior: last, see below
]
