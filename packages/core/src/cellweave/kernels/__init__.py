"""Numerical kernels that the verbs, the metrics and the plugins share; each module stands alone."""
