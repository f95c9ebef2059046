"""Ways to run the loop of a recurrent network over time, each with all its gradients."""
