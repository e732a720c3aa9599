"""Checkpoints that others have published: their facts, and a configuration that uses each."""
