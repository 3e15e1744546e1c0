"""The root of the command line and the verbs of the runtime."""
