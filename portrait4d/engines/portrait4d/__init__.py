"""The engines of the Portrait4D networks: portrait4d, portrait4d-static and portrait4d-v2."""
