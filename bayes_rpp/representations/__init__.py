"""Representations of groups: how coordinates transform."""
