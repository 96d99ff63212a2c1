"""`fcn_port.fast`: the same net and the same numbers, sooner."""
