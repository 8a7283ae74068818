"""Faces of a picture: found, landmarked, cropped and cut out."""
