"""Prior distributions over the weights of pathways, and what sets their variances."""
