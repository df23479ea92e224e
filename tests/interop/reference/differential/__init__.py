"""Run one configuration with two directories of CNI plugins, each on a host of its own, and compare what they leave."""
