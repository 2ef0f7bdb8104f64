"""`mld new-modality` and the like: write a package with a new plugin, ready to be edited."""
