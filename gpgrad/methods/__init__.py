"""The methods: networks, decompositions, weightings and sharing schemes. See `registry` for their names."""
