"""Marginal-likelihood-style diagnostics: which model do the data support?"""

from analysis.evidence.annealing import AnnealedImportanceSampling, TemperedSMC
from analysis.evidence.bidirectional import bidirectional_evidence, reverse_annealing
from analysis.evidence.conditional import ConditionalEvidence, held_out_evidence
from analysis.evidence.cross_validation import PSISLOO, WAIC, loo_of, waic_of
from analysis.evidence.exact import ExactEvidence, exact_log_evidence
from analysis.evidence.laplace import LaplaceEvidence
from analysis.evidence.log_evidence import log_evidence
from analysis.evidence.protocol import Evidence, EvidenceMethod
from analysis.evidence.thermodynamic import SteppingStone, ThermodynamicIntegration
from inference.exact.exact_posterior import exact_loo, exact_posterior
from inference.exact.exact_sampling import ExactSampling
from inference.exact.hierarchical import HierarchicalPosterior, hierarchical_posterior

__all__ = [
    "PSISLOO",
    "WAIC",
    "AnnealedImportanceSampling",
    "ConditionalEvidence",
    "Evidence",
    "EvidenceMethod",
    "ExactEvidence",
    "ExactSampling",
    "HierarchicalPosterior",
    "LaplaceEvidence",
    "SteppingStone",
    "TemperedSMC",
    "ThermodynamicIntegration",
    "bidirectional_evidence",
    "exact_log_evidence",
    "exact_loo",
    "exact_posterior",
    "held_out_evidence",
    "hierarchical_posterior",
    "log_evidence",
    "loo_of",
    "reverse_annealing",
    "waic_of",
]
