"""4D training data out of a trained GenHead: persons, their motions and cameras, and all that is known of pictures."""
