"""The proof: goldens recorded from real Caffe, one table of tolerances, one test file for each claim."""
