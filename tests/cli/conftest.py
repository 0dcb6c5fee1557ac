from cli_checkout import checkout, dsdeploy, environ

__all__ = ["checkout", "dsdeploy", "environ"]
