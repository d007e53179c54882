"""Training: a short loop of our own that stops anywhere and goes on to the bit."""
