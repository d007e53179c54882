"""Encoders: a ragged batch in, token and cell states out; one architecture a file."""
