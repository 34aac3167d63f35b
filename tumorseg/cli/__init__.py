"""The command line: options in, one stage called, result printed."""
