"""Target adapter of this repository's ``assembler``: scenarios, pools, scripts, probes."""
