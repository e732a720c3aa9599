"""Adds entities to a checkpoint without training, from their mentions or a description."""
