"""Starting the proxy and finding one that runs: what the commands `run`, `web`, `exec` and `env` share."""
