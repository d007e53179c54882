"""Models: an encoder with its tokenizer and weights, as a folder that a colleague can load."""
