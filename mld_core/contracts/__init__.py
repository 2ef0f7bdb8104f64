"""What a plugin supplies: a modality, a dataset or a method."""
