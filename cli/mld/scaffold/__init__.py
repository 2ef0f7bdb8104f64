"""`mld new-modality`: a package with a modality, ready to be edited."""
