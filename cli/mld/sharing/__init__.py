"""Sharing of finished runs on the Hugging Face Hub."""
