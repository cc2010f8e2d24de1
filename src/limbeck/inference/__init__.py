"""Engines that generate and read: `engine` is the transformers reference, white box, with captured distributions."""
