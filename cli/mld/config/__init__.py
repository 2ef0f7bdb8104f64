"""The spec: its sections, how it is read, and every error of it."""
