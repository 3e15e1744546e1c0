"""Metrics of detections over a split: COCO, VOC, CrowdHuman."""
