"""The command ``bayes-rpp``."""
