"""The HTTP edge of a region: sign-up, posts, follows, feed reads. Everything of the wire contract but the stream."""
