"""Marginal-likelihood-style diagnostics: which model do the data support?"""

from analysis.evidence.annealing import AnnealedImportanceSampling, TemperedSMC
from analysis.evidence.conditional import ConditionalEvidence, held_out_evidence
from analysis.evidence.cross_validation import PSISLOO, loo_of
from analysis.evidence.exact import ExactEvidence
from analysis.evidence.laplace import LaplaceEvidence
from analysis.evidence.log_evidence import log_evidence
from analysis.evidence.protocol import Evidence, EvidenceMethod
from inference.exact.exact_posterior import ExactSampling, exact_loo, exact_posterior
from inference.exact.hierarchical import HierarchicalPosterior, hierarchical_posterior

__all__ = [
    "PSISLOO",
    "AnnealedImportanceSampling",
    "ConditionalEvidence",
    "Evidence",
    "EvidenceMethod",
    "ExactEvidence",
    "ExactSampling",
    "HierarchicalPosterior",
    "LaplaceEvidence",
    "TemperedSMC",
    "exact_loo",
    "exact_posterior",
    "held_out_evidence",
    "hierarchical_posterior",
    "log_evidence",
    "loo_of",
]
