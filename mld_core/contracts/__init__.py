"""What a plugin supplies: a modality, a dataset, a method or a tracker."""
