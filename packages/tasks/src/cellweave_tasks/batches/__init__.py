"""Ways of taking batch effects out, each in its own file, imported when it is asked for."""
