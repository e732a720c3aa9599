"""Builds the alias table of entity linking from linked mentions, anchors and redirects."""
