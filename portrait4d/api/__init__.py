"""What Python programs hold in their hands: a head of any engine, the Portrait4D networks, videos for notebooks."""
