"""Background work of a region: archive of posts, import of inherited follows, history before the start."""
