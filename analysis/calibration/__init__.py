"""Whether predicted probabilities of classes are right."""
