"""One head model fitted to landmarks of pictures and clips."""
