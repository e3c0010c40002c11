"""Transfer backends that use what a GPU has: batched copies of its copy engines, and a kernel."""
