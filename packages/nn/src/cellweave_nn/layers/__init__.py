"""The one set of blocks that every encoder, ours or published, is built from."""
