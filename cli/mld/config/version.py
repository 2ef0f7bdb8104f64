"""The version of mld."""

from mld_core.plugins.discovery import installed_version

__version__ = installed_version("mld-toolkit")
