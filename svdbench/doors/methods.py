"""The command that lists the orthogonal parametrisations."""

from svdbench.job import Command


def methods() -> None:
    """List the orthogonal parametrisations: what each builds, its gradients, its cost."""
    from svdbench.jobs import methods as job

    job.run()


COMMAND = Command("methods", methods)
