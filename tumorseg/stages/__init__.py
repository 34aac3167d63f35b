"""One file per verb, in folders: the only code that joins files with numerics."""
