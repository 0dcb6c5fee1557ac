"""dsdeploy: one command from a bare GPU server to a served, verified DeepSeek."""
