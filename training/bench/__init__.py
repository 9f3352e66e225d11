"""Speed and memory of the stages on the machine at hand: `python -m training.bench --preset nano`."""
