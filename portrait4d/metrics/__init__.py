"""How good pictures, control and geometry are: one path for training and for the command line."""
