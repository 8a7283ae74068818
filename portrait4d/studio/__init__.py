"""A local page in the browser: a photo becomes a head that sliders, a camera or a clip drive."""
