"""Builds the training corpus from openly licensed sources."""
