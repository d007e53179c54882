"""What the tests of model families share, for families of this house and of others.

``hostile`` makes damaged and hostile files, ``published`` holds the checks of a reader as a class
to inherit from. Importing this imports no torch.
"""
