"""Dataset plugins, one module each."""
