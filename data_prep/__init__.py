"""Offline preparation: images in, TFRecords out."""
