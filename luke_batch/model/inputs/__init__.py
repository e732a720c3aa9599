"""From text to windows of ids."""
