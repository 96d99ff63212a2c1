"""How many nets of a folder of prototxt files are read, built, run, and right."""
