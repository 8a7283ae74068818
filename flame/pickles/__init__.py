"""Numbers out of pickles, without running anything in them."""
