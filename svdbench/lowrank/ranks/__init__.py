"""Which rank each weight of a network needs: what it costs, foretold and measured."""
