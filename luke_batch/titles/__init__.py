"""Alias tables are built, and titles are added to a checkpoint."""
