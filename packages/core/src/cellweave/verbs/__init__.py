"""What users do: read, validate, prepare, link, integrate, tokenize, embed, evaluate, report."""
