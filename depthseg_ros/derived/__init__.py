"""What planners want from labels and depth, one module each; numpy in, numpy out."""
