"""Central differential privacy in the fold: updates become one sum of integers, and only noisy sums move the model."""
