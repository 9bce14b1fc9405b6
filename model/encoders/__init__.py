"""Parameters of what stands before a decoder: encoders of images and sounds, by their configs."""
