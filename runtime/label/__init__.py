"""The label job: images in, boxes for labelling tools out."""
