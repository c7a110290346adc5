"""Who follows whom: the inherited graph, memory-mapped, under the changes committed since."""
