"""What the shipped backbone and the paper's data sets need, and no user's run: it is not part of the extension."""
