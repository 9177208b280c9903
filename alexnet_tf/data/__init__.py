"""What the networks see: records, image arithmetic, input pipelines, ImageNet's facts."""
