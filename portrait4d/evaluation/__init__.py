"""How good reenacted clips are: measures with fixed definitions, and tables of them."""
