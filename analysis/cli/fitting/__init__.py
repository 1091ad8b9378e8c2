"""From a user's table and options to a fitted posterior."""
