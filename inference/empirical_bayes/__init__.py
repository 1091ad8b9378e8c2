"""Learning prior variances by the evidence."""
