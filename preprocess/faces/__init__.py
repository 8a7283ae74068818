"""Finds the faces in a picture, places landmarks on them, crops them and cuts out the person."""
