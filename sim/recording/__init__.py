"""What a run leaves behind: columns of requests and steps, in memory or in files."""
