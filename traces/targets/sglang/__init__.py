"""The real SGLang package as a target: any release, with or without a GPU."""
