"""Trackers, which show runs elsewhere, fed from the event log."""
