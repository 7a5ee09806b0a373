"""The door for machines that watch: alive, ready, and numbers. docs/running.md explains the answers."""
