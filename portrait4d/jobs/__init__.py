"""What the commands do, without a word printed."""
