"""`mld new-modality`: writes a package with a new modality, ready to be edited."""
