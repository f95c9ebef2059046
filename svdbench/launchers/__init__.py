"""Launchers for Hydra's sweeps that svdbench brings along."""


def register() -> None:
    """Make them known to Hydra, as ``hydra/launcher=NAME``. Safe to repeat."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from svdbench.launchers.ray import RayLauncher, RayOptions

    plugins, theirs = Plugins.instance(), Plugins.is_in_toplevel_plugins_module

    def known(clazz: str) -> bool:
        return clazz == RayOptions._target_ or theirs(clazz)

    plugins.register(RayLauncher)
    # Hydra takes plugins from its own namespace only, which would be a package of ours beside
    # svdbench: this instance of it takes ours, too.
    plugins.is_in_toplevel_plugins_module = known  # type: ignore[method-assign]
    ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayOptions)
