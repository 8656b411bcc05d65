"""Whether a process is alive and ready, for the probes of an orchestrator."""
