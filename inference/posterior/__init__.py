"""The result of every engine: draws, predictions, conversions and files."""
