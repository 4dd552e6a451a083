"""The chest radiograph model: `python -m training.chest_xray`."""
