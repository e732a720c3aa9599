"""What fills the gap of a prompt."""
