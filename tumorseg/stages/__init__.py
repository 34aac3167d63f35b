"""One file per verb: the only code that joins files with numerics."""
