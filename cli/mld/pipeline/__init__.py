"""The stages of `mld run`."""
