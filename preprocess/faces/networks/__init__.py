"""The three face networks of MediaPipe as plain torch modules; weights lie in `preprocess/assets`."""
