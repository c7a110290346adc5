"""Fan-out: from the post queue to the timelines of all followers, through the lanes this worker owns."""
