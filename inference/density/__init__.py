"""The log joint over unconstrained coordinates."""
