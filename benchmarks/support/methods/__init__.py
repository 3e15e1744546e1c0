"""The comparison of the methods: variants, runs, tables."""
