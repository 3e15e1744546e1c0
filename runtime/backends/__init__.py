"""What executes a graph. Each backend imports its library when it is constructed, not before."""
