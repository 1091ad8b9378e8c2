"""A fitted run with its held-out data, and the report on it: numbers, words and pictures."""
