"""New checkpoint folders out of others."""
