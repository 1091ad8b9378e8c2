"""The tests, and the modules that they share."""
