"""Who asks for what, when: arrivals, lengths and traces, as numpy columns. Knows no other room."""
