"""Weights files of strangers, and the model card."""
