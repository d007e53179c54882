"""Objectives: what is hidden from an encoder, and what that costs; one idea a file.

Each is a frozen record with three methods: ``heads`` builds the prediction heads it needs,
``corrupt`` hides something, ``loss`` scores what came back. Random numbers come from the
generator that is given, drawn on the CPU, so every device sees the same corruption.
"""
