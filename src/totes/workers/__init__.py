"""Where pieces of large work run: in threads of this process, or on an Apache Spark cluster."""
