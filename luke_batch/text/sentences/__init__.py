"""Sentences with exact offsets."""
