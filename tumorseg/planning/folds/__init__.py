"""Which cases train and which are held out, fold by fold."""
