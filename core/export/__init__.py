"""What a run hands over: predictions, metrics and manifests, the report, the summary, the pointer."""
