"""Models, priors and groups as JSON values, and back."""
